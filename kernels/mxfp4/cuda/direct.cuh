// Experts for up to 8 tokens, without routing passes: weights of the chosen experts stream through shared memory once.
//
// One warp fills a ring with whole strips by bulk copies; fifteen share each of them by columns. Tokens are the 8 columns (up) or
// the first 8 rows (down) of the tensor cores' tiles: row i of x is token i, chosen or not.
#pragma once
#include "cuda/grouped.cuh"
#include "params.h"

namespace kl {

constexpr int direct_warps = 15, direct_consumers = direct_warps * 32, direct_threads = direct_consumers + 32, direct_tiles = 3, direct_tokens = 8;
constexpr int direct_most_stages = 8, direct_most_strips = 4, most_experts = 256;

constexpr int most_chosen = direct_tokens * 8, one_chosen = 8, chosen_entries = direct_threads / 32 * one_chosen;
static_assert(chosen_entries >= most_chosen);

struct ChosenStore {  // one token: a part for each warp; several: one for all
  int ids[chosen_entries], active[chosen_entries];
  uint32_t bits[most_experts / 32];
  uint32_t count;
};

struct Chosen {
  const int* ids;     // [token, slot]; -1: no such row, or an expert that is not held here
  const int* active;  // the distinct experts of this launch, in rising order
  uint32_t count;
};

// For all threads.
__device__ __forceinline__ Chosen find_chosen(const DirectParams& p, ChosenStore& chosen) {
  const uint32_t i = threadIdx.x, pairs = p.tokens * p.top_k;
  if (p.tokens == 1) {  // every warp by itself and for itself, so that none waits for another
    const uint32_t lane = i % 32;
    int *ids = chosen.ids + i / 32 * one_chosen, *active = chosen.active + i / 32 * one_chosen;
    int id = -1;
    if (lane < pairs) {
      id = load_fresh(p.ids + lane);
      if (load_fresh(p.row_seq) < 0 || id < int(p.expert_begin) || id >= int(p.expert_end)) id = -1;
    }
    uint32_t rank = 0;
    for (uint32_t j = 0; j < pairs; ++j) {
      const int other = __shfl_sync(~0u, id, j);
      rank += other >= 0 && other < id;
    }
    if (lane < pairs) ids[lane] = id;
    if (id >= 0) active[rank] = id;
    const uint32_t count = __popc(__ballot_sync(~0u, id >= 0));
    __syncwarp();
    return {ids, active, count};
  }
  if (i < most_experts / 32) chosen.bits[i] = 0;
  __syncthreads();
  if (i < pairs) {
    int id = load_fresh(p.ids + i);
    if (load_fresh(p.row_seq + i / p.top_k) < 0 || id < int(p.expert_begin) || id >= int(p.expert_end)) id = -1;
    chosen.ids[i] = id;
    if (id >= 0) atomicOr(&chosen.bits[id / 32], 1u << (id % 32));
  }
  __syncthreads();
  if (i < most_experts) {
    uint32_t rank = __popc(chosen.bits[i / 32] & ((1u << (i % 32)) - 1)), total = 0;
    for (uint32_t w = 0; w < most_experts / 32; ++w) {
      if (w < i / 32) rank += __popc(chosen.bits[w]);
      total += __popc(chosen.bits[w]);
    }
    if (chosen.bits[i / 32] >> (i % 32) & 1) chosen.active[rank] = int(i);
    if (i == 0) chosen.count = total;
  }
  __syncthreads();
  return {chosen.ids, chosen.active, chosen.count};
}

// Where column k of h lies: the order in which a lane holds its 16 values of a tile.
__device__ __forceinline__ uint32_t h_place(uint32_t k) {
  const uint32_t step = k / 16 % 4, c = k % 16;
  return k / 64 * 64 + (c % 8 / 2) * 16 + step * 4 + c / 8 * 2 + c % 2;
}

__device__ __forceinline__ void direct_up(const DirectParams& p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ ChosenStore store;
  __shared__ uint64_t full[direct_most_stages], empty[direct_most_stages];
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t row_tiles = p.hidden / 64, share = (row_tiles + direct_warps - 1) / direct_warps;
  const uint32_t first_tile = min(warp * share, row_tiles), tiles = min(share, row_tiles - first_tile);
  const uint32_t strip_bytes = row_tiles * tile_bytes, stage_bytes = 2 * strip_bytes;
  float* sums = reinterpret_cast<float*>(shared + p.stages * stage_bytes);
  const uint32_t item_sums = direct_warps * p.tokens * 16;
  const uint32_t blocks = p.intermediate / 8;
  if (threadIdx.x < p.stages) barrier_init(full + threadIdx.x, feed_arrivals), barrier_init(empty + threadIdx.x, direct_warps * release_arrivals), barrier_init_fence();
  __syncthreads();
  pdl_wait();
  // Only now: the next launch (down) reads the router's results before its own wait, and may since they are complete here.
  pdl_launch();
  uint32_t x[direct_tiles][8];
#pragma unroll
  for (int j = 0; j < direct_tiles; ++j) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      x[j][i] = 0;
      if (g < p.tokens && uint32_t(j) < tiles) {
        x[j][i] = *reinterpret_cast<const uint32_t*>(p.x + uint64_t(g) * p.hidden + (first_tile + j) * 64 + i * 8 + t * 2);
      }
    }
  }
  const Chosen chosen = find_chosen(p, store);
  const uint32_t items = chosen.count * blocks;
  const uint32_t begin = uint64_t(items) * blockIdx.x / gridDim.x, end = uint64_t(items) * (blockIdx.x + 1) / gridDim.x;

  if (warp == direct_warps) {
    if ((sm90a && lane != 0) || begin == end) return;
    const uint64_t policy = evict_first();
    uint32_t s = 0, phase = 1, a = begin / blocks, block = begin % blocks;
    for (uint32_t item = begin; item < end; ++item) {
      barrier_wait(empty + s, phase);  // the first turn passes at once
      barrier_expect(full + s, stage_bytes);
      bulk_copy(shared + s * stage_bytes, p.up + (uint64_t(chosen.active[a] - p.expert_begin) * blocks + block) * stage_bytes, stage_bytes, full + s, policy);
      feed_done(full + s);
      if (++block == blocks) block = 0, ++a;
      if (++s == p.stages) s = 0, phase ^= 1;
    }
    feed_end();
    return;
  }

  // A single group of items: each thread has at most one result, whose bias can come early.
  const bool single = end - begin <= p.group && (end - begin) * p.tokens * 8 <= direct_consumers;
  const auto bias_at = [&](uint32_t item, uint32_t pair) {
    const uint32_t expert = chosen.active[item / blocks] - p.expert_begin;
    return reinterpret_cast<const uint32_t*>(p.up_bias) + uint64_t(expert) * p.intermediate + item % blocks * 8 + pair;
  };
  uint32_t early_bias = 0;
  if (single && threadIdx.x < (end - begin) * p.tokens * 8) early_bias = *bias_at(begin + threadIdx.x / (p.tokens * 8), threadIdx.x % 8);

  uint32_t buffer = 0, s = 0, phase = 0;
  for (uint32_t start = begin; start < end; start += p.group, buffer ^= 1) {
    const uint32_t here = min(p.group, end - start);
    float* group_sums = sums + buffer * p.group * item_sums;
    for (uint32_t n = 0; n < here; ++n) {
      float d[2][4] = {};
      barrier_wait(full + s, phase);
      const uint8_t* stage = shared + s * stage_bytes + first_tile * tile_bytes;
      const auto multiply = [&](int j) {
        const uint8_t* a = stage + j * tile_bytes;
        uint32_t v[8], w[8];
        unpack_tile(*reinterpret_cast<const uint2*>(a + lane * 8), *reinterpret_cast<const uint16_t*>(a + 256 + g * 2), v);
        a += strip_bytes;
        unpack_tile(*reinterpret_cast<const uint2*>(a + lane * 8), *reinterpret_cast<const uint16_t*>(a + 256 + g * 2), w);
#pragma unroll
        for (int k = 0; k < 4; ++k) mma16816(d[k % 2], v[2 * k], w[2 * k], v[2 * k + 1], w[2 * k + 1], x[j][2 * k], x[j][2 * k + 1]);
      };
      if (tiles == direct_tiles) {  // no branches between tiles, so that they overlap
#pragma unroll
        for (int j = 0; j < direct_tiles; ++j) multiply(j);
      } else {
#pragma unroll
        for (int j = 0; j < direct_tiles; ++j) {
          if (uint32_t(j) < tiles) multiply(j);
        }
      }
      barrier_release(empty + s, lane);
      if (++s == p.stages) s = 0, phase ^= 1;
      float* to = group_sums + n * item_sums + warp * p.tokens * 16;
      if (2 * t < p.tokens) to[2 * t * 16 + g] = d[0][0] + d[1][0], to[2 * t * 16 + 8 + g] = d[0][2] + d[1][2];
      if (2 * t + 1 < p.tokens) {
        to[(2 * t + 1) * 16 + g] = d[0][1] + d[1][1], to[(2 * t + 1) * 16 + 8 + g] = d[0][3] + d[1][3];
      }
    }
    named_barrier(1, direct_consumers);
    for (uint32_t i = threadIdx.x; i < here * p.tokens * 8; i += direct_consumers) {
      const uint32_t n = i / (p.tokens * 8), token = i / 8 % p.tokens, pair = i % 8;
      const uint32_t item = start + n, expert = chosen.active[item / blocks];
      uint32_t slot = 0;
      while (slot < p.top_k && chosen.ids[token * p.top_k + slot] != int(expert)) ++slot;
      if (slot == p.top_k) continue;
      float gate = 0, up = 0;
#pragma unroll
      for (int w = 0; w < direct_warps; ++w) {
        const float2 v = *reinterpret_cast<const float2*>(group_sums + n * item_sums + (w * p.tokens + token) * 16 + pair * 2);
        gate += v.x, up += v.y;
      }
      const uint32_t k = item % blocks * 8 + pair;
      const uint32_t bias = single ? early_bias : *bias_at(item, pair);
      const float value = swiglu(gate * tile_unit + low(bias), up * tile_unit + high(bias), p.alpha, p.limit);
      p.h[(uint64_t(token) * p.top_k + slot) * p.intermediate + h_place(k)] = to_bf16(value);
    }
  }
}

__device__ __forceinline__ void direct_down(const DirectParams& p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ ChosenStore store;
  __shared__ float weights[direct_tokens * 8];
  __shared__ uint64_t full[direct_most_stages], empty[direct_most_stages];
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t row_tiles = p.intermediate / 64, share = (row_tiles + direct_warps - 1) / direct_warps;
  const uint32_t first_tile = min(warp * share, row_tiles), tiles = min(share, row_tiles - first_tile);
  const uint32_t strip_bytes = row_tiles * tile_bytes, stage_bytes = p.strips_per_block * strip_bytes, all_strips = p.hidden / 8;
  float* sums = reinterpret_cast<float*>(shared + p.stages * stage_bytes);  // [warp, strip, token, 8]
  if (threadIdx.x < p.stages) barrier_init(full + threadIdx.x, feed_arrivals), barrier_init(empty + threadIdx.x, direct_warps * release_arrivals), barrier_init_fence();
  __syncthreads();
  pdl_launch();
  // Before the wait: the router is complete, because `up` lets this launch start only after its own wait.
  const Chosen chosen = find_chosen(p, store);
  if (threadIdx.x < p.tokens * p.top_k) weights[threadIdx.x] = load_fresh(p.weights + threadIdx.x);

  const uint32_t strip = blockIdx.x * p.strips_per_block, strips = min(p.strips_per_block, all_strips - strip);
  for (uint32_t i = threadIdx.x; i < chosen.count; i += direct_threads) {  // biases are constant: they may be on their way already
    const uint16_t* bias = p.down_bias + uint64_t(chosen.active[i] - int(p.expert_begin)) * p.hidden + strip * 8;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(bias));
  }
  if (warp == direct_warps) {
    if (!sm90a || lane == 0) {
      const uint64_t policy = evict_first();
      uint32_t s = 0, phase = 1;
      for (uint32_t a = 0; a < chosen.count; ++a) {
        barrier_wait(empty + s, phase);
        barrier_expect(full + s, strips * strip_bytes);
        bulk_copy(shared + s * stage_bytes, p.down + (uint64_t(chosen.active[a] - p.expert_begin) * all_strips + strip) * strip_bytes, strips * strip_bytes,
                  full + s, policy);
        feed_done(full + s);
        if (++s == p.stages) s = 0, phase ^= 1;
      }
    }
    feed_end();
    __syncwarp();
    pdl_wait();
    return;
  }
  pdl_wait();
  named_barrier(1, direct_consumers);
  // The first result's old value, in flight from here on.
  const auto place_of = [&](uint32_t i) { return uint64_t(i / 8 % p.tokens) * p.hidden + (strip + i / (p.tokens * 8)) * 8 + i % 8; };
  const bool has_result = threadIdx.x < strips * p.tokens * 8;
  const float early_old = has_result && p.accumulate ? load_stream(p.out, place_of(threadIdx.x), p.stream_f32) : 0;
  // Few tokens: h comes into shared memory at once, instead of a wait per expert.
  const uint16_t* rows = p.h;
  if (p.staged) {
    uint4* to = reinterpret_cast<uint4*>(sums + direct_warps * direct_most_strips * p.tokens * 8);
    for (uint32_t i = threadIdx.x; i < p.tokens * p.top_k * p.intermediate / 8; i += direct_consumers) to[i] = reinterpret_cast<const uint4*>(p.h)[i];
    named_barrier(1, direct_consumers);
    rows = reinterpret_cast<const uint16_t*>(to);
  }

  float total[direct_most_strips][2] = {};
  uint32_t s = 0, phase = 0;
  for (uint32_t a = 0; a < chosen.count; ++a) {
    const int expert = chosen.active[a];
    uint32_t slot = p.top_k;
    if (g < p.tokens) {
      for (slot = 0; slot < p.top_k && chosen.ids[g * p.top_k + slot] != expert; ++slot) {
      }
    }
    const bool mine = slot < p.top_k;
    const float weight = mine ? weights[g * p.top_k + slot] : 0;
    uint4 h[direct_tiles][2];
#pragma unroll
    for (int j = 0; j < direct_tiles; ++j) {
      h[j][0] = h[j][1] = make_uint4(0, 0, 0, 0);
      if (mine && uint32_t(j) < tiles) {
        const uint4* from = reinterpret_cast<const uint4*>(rows + (uint64_t(g) * p.top_k + slot) * p.intermediate + (first_tile + j) * 64 + t * 16);
        h[j][0] = from[0], h[j][1] = from[1];
      }
    }
    barrier_wait(full + s, phase);
    const uint8_t* stage = shared + s * stage_bytes + first_tile * tile_bytes;
    float d[direct_most_strips][4] = {};
    const auto multiply = [&](int j, int n) {
      const uint8_t* from = stage + n * strip_bytes + j * tile_bytes;
      uint32_t v[8];
      unpack_tile(*reinterpret_cast<const uint2*>(from + lane * 8), *reinterpret_cast<const uint16_t*>(from + 256 + g * 2), v);
      mma16816(d[n], h[j][0].x, 0, h[j][0].y, 0, v[0], v[1]);
      mma16816(d[n], h[j][0].z, 0, h[j][0].w, 0, v[2], v[3]);
      mma16816(d[n], h[j][1].x, 0, h[j][1].y, 0, v[4], v[5]);
      mma16816(d[n], h[j][1].z, 0, h[j][1].w, 0, v[6], v[7]);
    };
    if (tiles == direct_tiles && strips == 3) {  // gpt-oss on 132 multiprocessors: no branches, so that strips and tiles overlap
#pragma unroll
      for (int j = 0; j < direct_tiles; ++j) {
#pragma unroll
        for (int n = 0; n < 3; ++n) multiply(j, n);
      }
    } else {
#pragma unroll
      for (int n = 0; n < direct_most_strips; ++n) {
#pragma unroll
        for (int j = 0; j < direct_tiles; ++j) {
          if (uint32_t(n) < strips && uint32_t(j) < tiles) multiply(j, n);
        }
      }
    }
    barrier_release(empty + s, lane);
    if (++s == p.stages) s = 0, phase ^= 1;
#pragma unroll
    for (int n = 0; n < direct_most_strips; ++n) {
      total[n][0] += weight * d[n][0];
      total[n][1] += weight * d[n][1];
    }
  }
#pragma unroll
  for (int n = 0; n < direct_most_strips; ++n) {
    if (uint32_t(n) < strips && g < p.tokens) {
      *reinterpret_cast<float2*>(sums + ((warp * direct_most_strips + n) * p.tokens + g) * 8 + t * 2) =
          make_float2(total[n][0], total[n][1]);
    }
  }
  named_barrier(1, direct_consumers);
  for (uint32_t i = threadIdx.x; i < strips * p.tokens * 8; i += direct_consumers) {
    const uint32_t n = i / (p.tokens * 8), token = i / 8 % p.tokens, r = i % 8, row = (strip + n) * 8 + r;
    if (p.row_seq[token] < 0) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < direct_warps; ++w) sum += sums[((w * direct_most_strips + n) * p.tokens + token) * 8 + r];
    sum *= tile_unit;
    float bias[8];
#pragma unroll
    for (uint32_t slot = 0; slot < 8; ++slot) {
      const int id = slot < p.top_k ? chosen.ids[token * p.top_k + slot] : -1;
      bias[slot] = id >= 0 ? weights[token * p.top_k + slot] * to_float(p.down_bias[uint64_t(id - int(p.expert_begin)) * p.hidden + row]) : 0;
    }
#pragma unroll
    for (uint32_t slot = 0; slot < 8; ++slot) sum += bias[slot];
    if (p.accumulate) sum += i < direct_consumers ? early_old : load_stream(p.out, place_of(i), p.stream_f32);
    const uint64_t at = uint64_t(token) * p.hidden + row;
    if (p.accumulate) {
      store_stream(p.out, at, sum, p.stream_f32);
    } else {
      static_cast<uint16_t*>(p.out)[at] = to_bf16(sum);
    }
  }
}

}  // namespace kl
