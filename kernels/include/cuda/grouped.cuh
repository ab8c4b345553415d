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

// The expert of a pair of token and slot, -1 where it is not here.
__device__ __forceinline__ int expert_of(const SortParams& p, uint32_t pair) {
  const int id = p.ids[pair];
  return p.row_seq[pair / p.top_k] >= 0 && id >= int(p.expert_begin) && id < int(p.expert_end) ? id - int(p.expert_begin) : -1;
}

// One block: the first sorted row of each expert, and the list of tiles.
__device__ __forceinline__ void write_tiles(const SortParams& p, uint32_t (&starts)[256]) {
  __shared__ uint32_t counts[256], firsts[256];
  const uint32_t i = threadIdx.x;
  if (i < 256) counts[i] = 0;
  __syncthreads();
  for (uint32_t pair = i; pair < p.tokens * p.top_k; pair += blockDim.x) {
    const int e = expert_of(p, pair);
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
}

// One block. Places within an expert are in no fixed order; no result depends on them.
__device__ __forceinline__ void sort_pairs(const SortParams& p) {
  __shared__ uint32_t starts[256];
  pdl_launch();
  pdl_wait();
  write_tiles(p, starts);
  for (uint32_t pair = threadIdx.x; pair < p.tokens * p.top_k; pair += blockDim.x) {
    const int e = expert_of(p, pair);
    p.sorted.place[pair] = e >= 0 ? int(atomicAdd(&starts[e], 1)) : -1;
  }
}

// A block a token: its row goes to the place of each of its pairs.
__device__ __forceinline__ void permute_rows(const PermuteParams& p) {
  pdl_launch();
  pdl_wait();
  const uint32_t token = blockIdx.x, pieces = p.hidden / 8;
  int place[8];
#pragma unroll
  for (uint32_t s = 0; s < 8; ++s) place[s] = s < p.top_k ? p.sorted.place[token * p.top_k + s] : -1;
  const uint4* from = reinterpret_cast<const uint4*>(p.x + uint64_t(token) * p.hidden);
  for (uint32_t i = threadIdx.x; i < pieces; i += blockDim.x) {
    const uint4 v = from[i];
#pragma unroll
    for (int s = 0; s < 8; ++s) {
      if (place[s] >= 0) reinterpret_cast<uint4*>(p.to)[uint64_t(place[s]) * pieces + i] = v;
    }
  }
}

// Sort and permutation in one launch, for at most `arranged_pairs`: block 0 writes the tiles, every other one finds the places of a
// token's pairs, in the order of pairs, by counting those before them.
__device__ __forceinline__ void arrange_pairs(const ArrangeParams& p) {
  pdl_launch();
  pdl_wait();
  if (blockIdx.x == 0) {
    __shared__ uint32_t starts[256];
    write_tiles(p.sort, starts);
    return;
  }
  constexpr uint32_t each = arranged_pairs / arranging_threads;
  const uint32_t token = blockIdx.x - 1, pairs = p.sort.tokens * p.sort.top_k, top_k = p.sort.top_k, pieces = p.hidden / 8;
  int other[each], mine[8];
#pragma unroll
  for (uint32_t n = 0; n < each; ++n) {
    const uint32_t pair = n * arranging_threads + threadIdx.x;
    other[n] = pair < pairs ? expert_of(p.sort, pair) : -1;
  }
#pragma unroll
  for (uint32_t s = 0; s < 8; ++s) mine[s] = s < top_k ? expert_of(p.sort, token * top_k + s) : -1;
  const uint4* from = reinterpret_cast<const uint4*>(p.x + uint64_t(token) * p.hidden);
  const uint4 early = threadIdx.x < pieces ? from[threadIdx.x] : make_uint4(0, 0, 0, 0);
#pragma unroll
  for (uint32_t s = 0; s < 8; ++s) {
    if (s >= top_k) break;
    int before = 0;
#pragma unroll
    for (uint32_t n = 0; n < each; ++n) {
      if (n * arranging_threads >= pairs) break;
      const bool first = other[n] >= 0 && (other[n] < mine[s] || (other[n] == mine[s] && n * arranging_threads + threadIdx.x < token * top_k + s));
      before += __syncthreads_count(first);
    }
    const int place = mine[s] >= 0 ? before : -1;
    if (threadIdx.x == 0) p.sort.sorted.place[token * top_k + s] = place;
    if (place < 0) continue;
    for (uint32_t i = threadIdx.x; i < pieces; i += arranging_threads) {
      reinterpret_cast<uint4*>(p.to)[uint64_t(place) * pieces + i] = i == threadIdx.x ? early : from[i];
    }
  }
}

// A block a token: the sum over its experts in the order of the router's ids.
__device__ __forceinline__ void combine_rows(const CombineParams& p) {
  pdl_launch();
  pdl_wait();
  const uint32_t token = blockIdx.x;
  if (p.row_seq[token] < 0) return;
  int place[8];
  float weight[8];
#pragma unroll
  for (uint32_t s = 0; s < 8; ++s) {
    place[s] = s < p.top_k ? p.sorted.place[token * p.top_k + s] : -1;
    weight[s] = s < p.top_k ? p.weights[token * p.top_k + s] : 0;
  }
  for (uint32_t c = threadIdx.x; c < p.hidden / 8; c += blockDim.x) {
    const uint64_t at = uint64_t(token) * p.hidden + c * 8;
    uint4 y[8];
#pragma unroll
    for (int s = 0; s < 8; ++s) {  // all in flight at once
      if (place[s] >= 0) y[s] = *reinterpret_cast<const uint4*>(p.y + uint64_t(place[s]) * p.hidden + c * 8);
    }
    float old[8] = {}, sum[8] = {};
    if (p.accumulate) load_stream8(p.out, at, p.stream_f32, old);
#pragma unroll
    for (int s = 0; s < 8; ++s) {
      if (place[s] < 0) continue;
      float v[8];
      unpack8(y[s], v);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += weight[s] * v[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += old[i];
    if (p.accumulate && p.stream_f32) {
      float4* to = reinterpret_cast<float4*>(static_cast<float*>(p.out) + at);
      to[0] = make_float4(sum[0], sum[1], sum[2], sum[3]), to[1] = make_float4(sum[4], sum[5], sum[6], sum[7]);
    } else {
      *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out) + at) = pack8(sum);
    }
  }
}

// Outside of the kernels, whose code may not call what the host computes with.
template <int width, bool mxfp4>
struct Ring {
  static constexpr int stages = int(grouped_stages(mxfp4, width, sm90a));
  static constexpr uint32_t stage_bytes = grouped_stage_bytes(mxfp4, width);
};

// Of 32 lanes, lane (g, t) has bf16 elements 2 t and 2 t + 1 of row g of an 8 by 8 matrix; afterwards of row g of its transpose.
__device__ __forceinline__ uint32_t transposed(uint32_t pair) {
  uint32_t v;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(pair));
  return v;
}

// Which product is at hand: 192 weight rows from `row` on by the sorted tokens [first, first + count) of one expert.
struct Item {
  uint32_t row, expert, first, count;
};

// Items are 192 weight rows by up to `width` sorted tokens of one expert. A block takes every gridDim.x-th of them; its ring goes on
// from one to the next, so that weights are in flight while results leave. slices: 64-column slices a stage of the ring.
template <int width, bool mxfp4, bool up>
__device__ __forceinline__ void grouped_product(const GroupedParams& p) {
  extern __shared__ __align__(128) uint8_t unaligned[];
  uint8_t* shared = aligned_shared(unaligned);
  constexpr int stages = Ring<width, mxfp4>::stages;
  __shared__ uint64_t full[stages], empty[stages];
  constexpr int slices = mxfp4 ? 2 : 1, consumers = 12;
  constexpr uint32_t x_bytes = width * 128, w_bytes = mxfp4 ? grouped_rows / 8 * slices * tile_bytes : grouped_rows * 128;
  constexpr uint32_t stage_bytes = Ring<width, mxfp4>::stage_bytes;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t steps = (p.depth + slices * 64 - 1) / (slices * 64), blocks = (p.rows + grouped_rows - 1) / grouped_rows;
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages; ++s) barrier_init(full + s, feed_arrivals), barrier_init(empty + s, consumers * release_arrivals);
    barrier_init_fence();
  }
  __syncthreads();
  pdl_launch();
  const auto item_at = [&](uint32_t i) {
    const int* tile = p.sorted.tiles + i / blocks * 3;
    return Item{i % blocks * grouped_rows, uint32_t(tile[0]), uint32_t(tile[1]), uint32_t(tile[2])};
  };

  if (warp >= consumers) {
    if constexpr (width >= 64) registers_shrink<32>();
    if (warp != consumers || (sm90a && lane != 0)) return;
    const auto feed = [&](const Item& item, uint32_t k, uint32_t s) {
      uint8_t* to = shared + s * stage_bytes + slices * x_bytes;
      barrier_expect(full + s, slices * x_bytes + w_bytes);
      if constexpr (mxfp4) {
        tma_load3(to, &p.weights, 0, int(k * slices), int(item.expert * p.strips + item.row / 8), full + s);
      } else {
        tma_load2(to, &p.weights, int(k * 64), int(item.expert * p.rows + item.row), full + s);
      }
#pragma unroll
      for (int i = 0; i < slices; ++i) {
        tma_load2(shared + s * stage_bytes + i * x_bytes, &p.x, int((k * slices + i) * 64), int(item.first), full + s);
      }
      feed_done(full + s);
    };
    // Weights are constant, and where every expert has a tile, this is which: they are on their way to the second-level cache before
    // the sort is known. Where the guess is wrong, another block wants them.
    if constexpr (mxfp4 && width <= 32) {
      const uint32_t expert = blockIdx.x / blocks;
      for (uint32_t k = 0; k < stages && expert < p.experts; ++k) {
        tma_prefetch3(&p.weights, 0, int(k * slices), int(expert * p.strips + blockIdx.x % blocks * grouped_rows / 8));
      }
    }
    pdl_wait();
    const uint32_t items = uint32_t(*p.sorted.tile_count) * blocks;
    uint32_t s = 0, phase = 1;
    for (uint32_t i = blockIdx.x; i < items; i += gridDim.x) {
      const Item item = item_at(i);
      for (uint32_t k = 0; k < steps; ++k) {
        barrier_wait(empty + s, phase);  // the first turn passes at once
        feed(item, k, s);
        if (++s == stages) s = 0, phase ^= 1;
      }
    }
    feed_end();
    return;
  }

  if constexpr (width >= 64) registers_grow<160>();
  constexpr float unit = mxfp4 ? tile_unit : 1.0f;
  const uint32_t columns = up ? p.rows / 2 : p.rows;
  uint32_t s = 0, phase = 0;
  pdl_wait();
  const uint32_t items = uint32_t(*p.sorted.tile_count) * blocks;
  Item next = blockIdx.x < items ? item_at(blockIdx.x) : Item{};
  for (uint32_t i = blockIdx.x; i < items; i += gridDim.x) {
    const Item item = next;
    if (i + gridDim.x < items) next = item_at(i + gridDim.x);
    // What the end needs is under way from here on. `up`: gate and value of pair t, and of 4 + t; else of rows g and 8 + g.
    const uint32_t warp_row = item.row + warp * 16;
    const uint16_t* bias = p.bias + uint64_t(item.expert) * p.rows + warp_row;
    const bool low_there = warp_row + 8 <= p.rows, high_there = warp_row + 16 <= p.rows;
    const float bias_low = low_there ? to_float(bias[g]) : 0, bias_high = high_there ? to_float(bias[8 + g]) : 0;
    float d[width / 2];
#pragma unroll
    for (int n = 0; n < width / 2; ++n) d[n] = 0;
    uint32_t before = stages;
    for (uint32_t k = 0; k < steps; ++k) {
      const uint8_t* stage = shared + s * stage_bytes;
      barrier_wait(full + s, phase);
      if constexpr (mxfp4) {
        const uint8_t* w = stage + slices * x_bytes + warp * 2 * slices * tile_bytes;  // this warp's two strips
        const uint64_t x = tile_descriptor(stage);
        uint32_t a[slices][8], b[slices][8];
#pragma unroll
        for (int n = 0; n < slices; ++n) {
          const uint8_t* tile = w + n * tile_bytes;
          unpack_tile(*reinterpret_cast<const uint2*>(tile + lane * 8), *reinterpret_cast<const uint16_t*>(tile + 256 + g * 2), a[n]);
          tile += slices * tile_bytes;
          unpack_tile(*reinterpret_cast<const uint2*>(tile + lane * 8), *reinterpret_cast<const uint16_t*>(tile + 256 + g * 2), b[n]);
          wgmma_fence();
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            Wgmma<width>::rs(d, a[n][2 * c], b[n][2 * c], a[n][2 * c + 1], b[n][2 * c + 1], columns_on(x, n * (x_bytes / 32) + c));
          }
          wgmma_commit();
          wgmma_wait<1>();  // the slice before is through, and with the first one the stage before
          if (n == 0 && k > 0) barrier_release(empty + before, lane);
        }
      } else {
        const uint64_t a = tile_descriptor(stage + x_bytes + warp / 4 * 8192), x = tile_descriptor(stage);
        wgmma_fence();
#pragma unroll
        for (int c = 0; c < 4; ++c) Wgmma<width>::ss(d, columns_on(a, c), columns_on(x, c));
        wgmma_commit();
        wgmma_wait<1>();
        if (k > 0) barrier_release(empty + before, lane);
      }
      before = s;
      if (++s == stages) s = 0, phase ^= 1;
    }
    wgmma_wait<0>();
    wgmma_settle(d);
    barrier_release(empty + before, lane);

    // Rows g and 8 + g of tokens 8 j + 2 t and the next become, by transposition, values of token 8 j + g.
#pragma unroll
    for (int j = 0; j < width / 8; ++j) {
      const uint32_t token = j * 8 + g;
      if constexpr (up) {
        // Lanes of odd g take the upper rows' pair, those of even g the lower rows': pair g / 2, or 4 + g / 2.
        const bool odd = g & 1;
        float v[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float lower = d[4 * j + k] * unit + bias_low, upper = d[4 * j + 2 + k] * unit + bias_high;
          const float other = __shfl_xor_sync(~0u, odd ? lower : upper, 4);
          v[k] = odd ? swiglu(other, upper, p.alpha, p.limit) : swiglu(lower, other, p.alpha, p.limit);
        }
        const uint32_t both = transposed(pack(v[0], v[1]));  // of token 8 j + g: pair t below, pair 4 + t above
        const uint32_t from = (lane & ~3u) | (2 * t & 3);
        const uint32_t one = __shfl_sync(~0u, both, from), two = __shfl_sync(~0u, both, from + 1);
        const uint32_t pairs = __byte_perm(one, two, t < 2 ? 0x5410 : 0x7632);  // 2 t and 2 t + 1
        const uint32_t column = warp_row / 2 + 2 * t;
        if (token < item.count && column < columns) {
          *reinterpret_cast<uint32_t*>(p.out + uint64_t(item.first + token) * columns + column) = pairs;
        }
      } else {
        const uint32_t lower = transposed(pack(d[4 * j] * unit + bias_low, d[4 * j + 1] * unit + bias_low));
        const uint32_t upper = transposed(pack(d[4 * j + 2] * unit + bias_high, d[4 * j + 3] * unit + bias_high));
        if (token < item.count) {
          uint16_t* to = p.out + uint64_t(item.first + token) * columns + warp_row + 2 * t;
          if (low_there) *reinterpret_cast<uint32_t*>(to) = lower;
          if (high_there) *reinterpret_cast<uint32_t*>(to + 8) = upper;
        }
      }
    }
  }
}

}  // namespace kl
