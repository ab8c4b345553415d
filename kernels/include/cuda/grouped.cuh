// Experts over tokens sorted by expert: the passes around the products, and the products themselves. Weights are the rows (64 a
// warpgroup) and tokens the columns of the tiles, so that few tokens make narrow tiles and MXFP4 codes become operands in registers.
#pragma once
#include "cuda/gemm.cuh"
#include "cuda/grouped.h"
#include "cuda/tiles.cuh"

namespace kl {

__device__ __forceinline__ float swiglu(float gate, float up, float alpha, float limit) {
  gate = fminf(gate, limit);
  up = fminf(fmaxf(up, -limit), limit);
  return gate / (1 + __expf(-alpha * gate)) * (up + 1);
}

// One block. Places within an expert are in no fixed order; no result depends on them.
__device__ __forceinline__ void sort_pairs(const SortParams& p) {
  __shared__ uint32_t counts[256], starts[256], firsts[256];
  pdl_wait();
  pdl_launch();
  const uint32_t i = threadIdx.x, pairs = p.tokens * p.top_k;
  if (i < 256) counts[i] = 0;
  __syncthreads();
  const auto expert_of = [&](uint32_t pair) {
    const int id = p.ids[pair];
    return p.row_seq[pair / p.top_k] >= 0 && id >= int(p.expert_begin) && id < int(p.expert_end) ? id - int(p.expert_begin) : -1;
  };
  for (uint32_t pair = i; pair < pairs; pair += 1024) {
    const int e = expert_of(pair);
    if (e >= 0) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
  if (i < 32) {  // running sums of rows and tiles, 8 experts a lane
    uint32_t rows = 0, tiles = 0;
    for (uint32_t e = i * 8; e < i * 8 + 8; ++e) rows += counts[e], tiles += (counts[e] + p.tile_tokens - 1) / p.tile_tokens;
    uint32_t rows_before = rows, tiles_before = tiles;
    for (int d = 1; d < 32; d *= 2) {
      const uint32_t r = __shfl_up_sync(~0u, rows_before, d), t = __shfl_up_sync(~0u, tiles_before, d);
      if (i >= uint32_t(d)) rows_before += r, tiles_before += t;
    }
    if (i == 31) *p.sorted.tile_count = int(tiles_before);
    rows_before -= rows, tiles_before -= tiles;
    for (uint32_t e = i * 8; e < i * 8 + 8; ++e) {
      starts[e] = rows_before, firsts[e] = tiles_before;
      rows_before += counts[e], tiles_before += (counts[e] + p.tile_tokens - 1) / p.tile_tokens;
    }
  }
  __syncthreads();
  if (i < 256) {
    for (uint32_t done = 0, tile = firsts[i]; done < counts[i]; done += p.tile_tokens, ++tile) {
      p.sorted.tiles[tile * 3] = int(i);
      p.sorted.tiles[tile * 3 + 1] = int(starts[i] + done);
      p.sorted.tiles[tile * 3 + 2] = int(min(p.tile_tokens, counts[i] - done));
    }
  }
  __syncthreads();
  for (uint32_t pair = i; pair < pairs; pair += 1024) {
    const int e = expert_of(pair);
    int place = -1;
    if (e >= 0) {
      place = int(atomicAdd(&starts[e], 1));
      p.sorted.source[place] = int(pair / p.top_k);
    }
    p.sorted.place[pair] = place;
  }
}

// A warp a pair.
__device__ __forceinline__ void permute_rows(const PermuteParams& p) {
  pdl_launch();
  pdl_wait();
  const uint32_t pair = blockIdx.x * 4 + threadIdx.x / 32;
  if (pair >= p.pairs) return;
  const int place = p.sorted.place[pair];
  if (place < 0) return;
  const uint4* from = reinterpret_cast<const uint4*>(p.x + uint64_t(pair / p.top_k) * p.hidden);
  uint4* to = reinterpret_cast<uint4*>(p.to + uint64_t(place) * p.hidden);
  for (uint32_t i = threadIdx.x % 32; i < p.hidden / 8; i += 32) to[i] = from[i];
}

// A block a token: the sum over its experts in the order of the router's ids.
__device__ __forceinline__ void combine_rows(const CombineParams& p) {
  pdl_launch();
  pdl_wait();
  const uint32_t token = blockIdx.x;
  if (p.row_seq[token] < 0) return;
  for (uint32_t c = threadIdx.x; c < p.hidden / 8; c += blockDim.x) {
    float sum[8] = {};
    for (uint32_t s = 0; s < p.top_k; ++s) {
      const int place = p.sorted.place[token * p.top_k + s];
      if (place < 0) continue;
      const float weight = p.weights[token * p.top_k + s];
      float v[8];
      load_bf16x8(p.y + uint64_t(place) * p.hidden + c * 8, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += weight * v[i];
    }
    const uint64_t at = uint64_t(token) * p.hidden + c * 8;
    if (p.accumulate) {
      float old[8];
      load_stream8(p.out, at, p.stream_f32, old);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += old[i];
      if (p.stream_f32) {
        float4* to = reinterpret_cast<float4*>(static_cast<float*>(p.out) + at);
        to[0] = make_float4(sum[0], sum[1], sum[2], sum[3]), to[1] = make_float4(sum[4], sum[5], sum[6], sum[7]);
        continue;
      }
    }
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out) + at) = pack8(sum);
  }
}

// Outside of the kernels, whose code may not call what the host computes with.
template <int width, bool mxfp4>
struct Ring {
  static constexpr int stages = int(grouped_stages(mxfp4, width, sm90a));
  static constexpr uint32_t stage_bytes = grouped_stage_bytes(mxfp4, width);
};

// One block: 192 weight rows by `width` sorted tokens of one expert. slices: 64-column slices a stage of the ring.
template <int width, bool mxfp4, bool up>
__device__ __forceinline__ void grouped_product(const GroupedParams& p) {
  extern __shared__ __align__(128) uint8_t unaligned[];
  uint8_t* shared = aligned_shared(unaligned);
  constexpr int stages = Ring<width, mxfp4>::stages;
  __shared__ uint64_t full[stages], empty[stages];
  constexpr int slices = mxfp4 ? 2 : 1, consumers = 12;
  constexpr uint32_t x_bytes = width * 128, w_bytes = mxfp4 ? grouped_rows / 8 * 2 * tile_bytes : grouped_rows * 128;
  constexpr uint32_t stage_bytes = Ring<width, mxfp4>::stage_bytes;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t steps = (p.depth + slices * 64 - 1) / (slices * 64);
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) barrier_init(full + s, feed_arrivals), barrier_init(empty + s, consumers * release_arrivals);
    barrier_init_fence();
  }
  __syncthreads();
  pdl_launch();
  pdl_wait();
  if (int(blockIdx.y) >= *p.sorted.tile_count) return;
  const uint32_t expert = p.sorted.tiles[blockIdx.y * 3], first = p.sorted.tiles[blockIdx.y * 3 + 1], count = p.sorted.tiles[blockIdx.y * 3 + 2];
  const uint32_t row = blockIdx.x * grouped_rows;

  if (warp >= consumers) {
    if constexpr (width >= 64) registers_shrink<32>();
    if (warp != consumers || (sm90a && lane != 0)) return;
    for (uint32_t k = 0; k < steps; ++k) {
      const uint32_t s = k % stages;
      if (k >= stages) barrier_wait(empty + s, (k / stages - 1) & 1);
      uint8_t* stage = shared + s * stage_bytes;
      barrier_expect(full + s, slices * x_bytes + w_bytes);
      if constexpr (mxfp4) {
        tma_load3(stage + slices * x_bytes, &p.weights, 0, int(k * 2), int(expert * p.strips + row / 8), full + s);
      } else {
        tma_load2(stage + slices * x_bytes, &p.weights, int(k * 64), int(expert * p.rows + row), full + s);
      }
#pragma unroll
      for (int i = 0; i < slices; ++i) tma_load2(stage + i * x_bytes, &p.x, int((k * slices + i) * 64), int(first), full + s);
      feed_done(full + s);
    }
    feed_end();
    return;
  }

  if constexpr (width >= 64) registers_grow<160>();
  float d[width / 2];
#pragma unroll
  for (int i = 0; i < width / 2; ++i) d[i] = 0;
  for (uint32_t k = 0; k < steps; ++k) {
    const uint32_t s = k % stages;
    const uint8_t* stage = shared + s * stage_bytes;
    barrier_wait(full + s, (k / stages) & 1);
    if constexpr (mxfp4) {
      const uint8_t* w = stage + slices * x_bytes + warp * 2 * slices * tile_bytes;  // this warp's two strips
      uint32_t a[2][8], b[2][8];
#pragma unroll
      for (int i = 0; i < slices; ++i) {
        const uint8_t* tile = w + i * tile_bytes;
        unpack_tile(*reinterpret_cast<const uint2*>(tile + lane * 8), *reinterpret_cast<const uint16_t*>(tile + 256 + g * 2), a[i]);
        tile += slices * tile_bytes;
        unpack_tile(*reinterpret_cast<const uint2*>(tile + lane * 8), *reinterpret_cast<const uint16_t*>(tile + 256 + g * 2), b[i]);
        const uint64_t x = tile_descriptor(stage + i * x_bytes);
        wgmma_fence();
#pragma unroll
        for (int c = 0; c < 4; ++c) Wgmma<width>::rs(d, a[i][2 * c], b[i][2 * c], a[i][2 * c + 1], b[i][2 * c + 1], x + 2 * c);
        wgmma_commit();
        if (i == 0) {
          wgmma_wait<1>();  // the previous stage is through
          if (k > 0) barrier_release(empty + (k - 1) % stages, lane);
        }
      }
      wgmma_wait<1>();
    } else {
      const uint64_t a = tile_descriptor(stage + x_bytes + warp / 4 * 8192), x = tile_descriptor(stage);
      wgmma_fence();
#pragma unroll
      for (int c = 0; c < 4; ++c) Wgmma<width>::ss(d, a + 2 * c, x + 2 * c);
      wgmma_commit();
      wgmma_wait<1>();
      if (k > 0) barrier_release(empty + (k - 1) % stages, lane);
    }
  }
  wgmma_wait<0>();
  wgmma_settle(d);
  named_barrier(1, consumers * 32);  // the ring is free: results pass through it, so that a token's columns leave together

  constexpr float unit = mxfp4 ? tile_unit : 1.0f;
  const uint32_t warp_row = row + warp * 16;
  constexpr int values = up ? 8 : 16;  // of one token by one warp
  uint16_t* turned = reinterpret_cast<uint16_t*>(shared) + warp * width * values;
  const uint16_t* bias = p.bias + uint64_t(expert) * p.rows;
  if constexpr (up) {
    const bool odd = g & 1;
    const uint32_t pair = odd ? 4 + g / 2 : g / 2;
    const uint32_t both = warp_row + pair * 2 < p.rows ? reinterpret_cast<const uint32_t*>(bias)[warp_row / 2 + pair] : 0;
#pragma unroll
    for (int j = 0; j < width / 8; ++j) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float other = __shfl_xor_sync(~0u, odd ? d[4 * j + k] : d[4 * j + 2 + k], 4);
        const float gate = odd ? other : d[4 * j + k], raised = odd ? d[4 * j + 2 + k] : other;
        const float v = swiglu(gate * unit + low(both), raised * unit + high(both), p.alpha, p.limit);
        turned[(j * 8 + t * 2 + k) * values + pair] = to_bf16(v);
      }
    }
  } else {
    const float first_bias = warp_row + g < p.rows ? to_float(bias[warp_row + g]) : 0;
    const float second_bias = warp_row + g + 8 < p.rows ? to_float(bias[warp_row + g + 8]) : 0;
#pragma unroll
    for (int j = 0; j < width / 8; ++j) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        turned[(j * 8 + t * 2 + k) * values + g] = to_bf16(d[4 * j + k] * unit + first_bias);
        turned[(j * 8 + t * 2 + k) * values + g + 8] = to_bf16(d[4 * j + 2 + k] * unit + second_bias);
      }
    }
  }
  __syncwarp();
  const uint32_t columns = up ? p.rows / 2 : p.rows;
  for (uint32_t i = lane; i < count * (values / 8); i += 32) {
    const uint32_t token = i / (values / 8), part = i % (values / 8);
    const uint32_t column = (up ? warp_row / 2 : warp_row) + part * 8;
    if (column < columns) {
      *reinterpret_cast<uint4*>(p.out + uint64_t(first + token) * columns + column) = *reinterpret_cast<const uint4*>(turned + i * 8);
    }
  }
}

}  // namespace kl
