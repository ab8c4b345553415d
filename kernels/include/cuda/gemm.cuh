// C [tokens, features] = A [tokens, depth] B^T, bf16, by warpgroup products: one tile of C a block. A warp feeds a ring of 64-column
// slices; weights start before the wait for the previous launch. What becomes of C is up to `Store`.
#pragma once
#include "cuda/wgmma.cuh"

namespace kl {

// Swizzled tiles begin at multiples of 1,024 bytes; launches ask for so much more.
__device__ __forceinline__ uint8_t* aligned_shared(uint8_t* p) { return p + (-shared_address(p) & 1023); }

// Rows of A that do not follow each other: the feeding warp copies them itself.
struct Gather {
  const uint16_t* x;
  const int32_t* rows;  // per token; negative: none
};

// store(token, feature, d): d[4 j + k] as Wgmma says, of 16 rows from `token` and block_features columns from `feature`, for one
// lane. block_tokens is 64 a warpgroup. first_row and first_feature: where the block's tile begins in the maps.
template <int block_tokens, int block_features, int stages, bool gather, class Store>
__device__ __forceinline__ void gemm_tile(const TileMap* map_a, const TileMap* map_b, const Gather& from, uint32_t depth, uint32_t row_a,
                                          uint32_t row_b, uint32_t tokens_there, const Store& store) {
  extern __shared__ __align__(128) uint8_t unaligned[];
  uint8_t* shared = aligned_shared(unaligned);
  __shared__ uint64_t full[stages], empty[stages];
  constexpr int consumers = block_tokens / 64 * 4;  // warps
  constexpr uint32_t stage_bytes = (block_tokens + block_features) * 128, a_bytes = block_tokens * 128, b_bytes = block_features * 128;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t steps = (depth + 63) / 64;
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) barrier_init(full + s, gather && sm90a ? 33 : feed_arrivals), barrier_init(empty + s, consumers * release_arrivals);
    barrier_init_fence();
  }
  __syncthreads();
  pdl_launch();

  if (warp == consumers) {
    const auto feed_b = [&](uint32_t k, uint32_t s) {
      barrier_expect(full + s, gather ? b_bytes : stage_bytes);
      tma_load2(shared + s * stage_bytes + a_bytes, map_b, int(k * 64), int(row_b), full + s);
    };
    const auto feed_a = [&](uint32_t k, uint32_t s) {
      if constexpr (gather) {
        const uint32_t to = shared_address(shared) + s * stage_bytes;
        for (uint32_t i = lane; i < block_tokens * 8; i += 32) {
          const uint32_t row = i / 8, chunk = i % 8;
          const int there = row < tokens_there ? from.rows[row_a + row] : -1;
          cp_async16(to + row * 128 + ((chunk ^ (row & 7)) << 4), from.x + uint64_t(max(there, 0)) * depth + k * 64 + chunk * 8, there >= 0);
        }
        cp_async_commit();
      } else if (!sm90a || lane == 0) {
        tma_load2(shared + s * stage_bytes, map_a, int(k * 64), int(row_a), full + s);
      }
    };
    const uint32_t early = min(uint32_t(stages), steps);
    if (!sm90a || lane == 0) {
      for (uint32_t k = 0; k < early; ++k) feed_b(k, k);
    }
    __syncwarp();
    pdl_wait();
    uint32_t landed = 0;
    for (uint32_t k = 0; k < steps; ++k) {
      const uint32_t s = k % stages;
      if (k >= early) {
        barrier_wait(empty + s, (k / stages - 1) & 1);
        if (!sm90a || lane == 0) feed_b(k, s);
        __syncwarp();
      }
      feed_a(k, s);
      feed_done(full + s);
      if constexpr (gather && sm90a) {  // what was copied by this warp becomes visible to the tensor cores two slices later
        if (k >= 2) {
          cp_async_wait<2>();
          async_proxy_fence();
          barrier_arrive(full + landed++ % stages);
        }
      }
    }
    feed_end();
    if constexpr (gather && sm90a) {
      cp_async_wait<0>();
      async_proxy_fence();
      while (landed < steps) barrier_arrive(full + landed++ % stages);
    }
    return;
  }

  float d[block_features / 2];
#pragma unroll
  for (int i = 0; i < block_features / 2; ++i) d[i] = 0;
  const uint32_t group = warp / 4;
  for (uint32_t k = 0; k < steps; ++k) {
    const uint32_t s = k % stages;
    barrier_wait(full + s, (k / stages) & 1);
    const uint64_t a = tile_descriptor(shared + s * stage_bytes + group * 8192), b = tile_descriptor(shared + s * stage_bytes + a_bytes);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) Wgmma<block_features>::ss(d, a + 2 * i, b + 2 * i);
    wgmma_commit();
    wgmma_wait<1>();
    if (k > 0) barrier_release(empty + (k - 1) % stages, lane);
  }
  wgmma_wait<0>();
  wgmma_settle(d);
  pdl_wait();
  store(row_a + group * 64 + warp % 4 * 16, row_b, d);
}

}  // namespace kl
