// Attention of one query row per sequence over the paged cache.
//
// A block serves one sequence, one kv head and one part of the pages; the up to 8 query heads of that kv head are the rows of
// the tensor cores' tiles. Pages come through a ring of three; each of the four warps takes 16 of a page's 64 keys and
// keeps its own running softmax. The sink joins once, at the end. Parts are joined in order by the last block to arrive.
#pragma once
#include "cuda/device.cuh"
#include "params.h"

namespace kl {

constexpr int decode_threads = 128, decode_stages = 3, page_bytes = 64 * 64 * 2;
constexpr int decode_shared = decode_stages * 2 * page_bytes;
constexpr float log2e = 1.4426950408889634f;

__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

__device__ __forceinline__ void attend_decode(const AttentionParams& p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float merged[4][8][66];
  __shared__ uint32_t last;
  pdl_launch();
  const uint32_t kv_head = blockIdx.x, seq = blockIdx.y, split = blockIdx.z;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t group = p.heads / p.kv_heads;
  pdl_wait();

  const int context = p.context[seq];
  if (context <= 0) return;
  const int start = p.window != 0 && context > int(p.window) ? context - int(p.window) : 0;
  const int page_begin = start / 64, pages = (context + 63) / 64 - page_begin;
  const int share = max((pages + int(p.splits) - 1) / int(p.splits), 2);
  const uint32_t active = (pages + share - 1) / share;
  if (split >= active) return;
  const int from = page_begin + int(split) * share, to = min(from + share, page_begin + pages);

  const auto load = [&](int page_index, int stage) {
    const int page = p.block_table[uint64_t(seq) * p.block_table_stride + page_index];
    const uint16_t* keys = p.kv + (uint64_t(max(page, 0)) * 2 * p.kv_heads + kv_head) * 4096;
    const uint16_t* values = keys + uint64_t(p.kv_heads) * 4096;
    const uint32_t at = shared_address(shared) + stage * 2 * page_bytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t c = threadIdx.x + i * decode_threads, row = c / 8, chunk = c % 8;
      const bool there = page >= 0 && page_index * 64 + int(row) < context;
      cp_async16(at + swizzled(row, chunk), keys + c * 8, there);
      cp_async16(at + page_bytes + swizzled(row, chunk), values + c * 8, there);
    }
  };
#pragma unroll
  for (int s = 0; s < decode_stages - 1; ++s) {
    if (from + s < to) load(from + s, s);
    cp_async_commit();
  }

  uint32_t q[4][2];
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    q[s][0] = q[s][1] = 0;
    if (g < group) {
      const uint16_t* row = p.q + (uint64_t(seq) * p.heads + kv_head * group + g) * 64 + s * 16 + t * 2;
      q[s][0] = *reinterpret_cast<const uint32_t*>(row);
      q[s][1] = *reinterpret_cast<const uint32_t*>(row + 8);
    }
  }
  const float scale = p.scale * log2e;
  float largest = -INFINITY, total = 0, out[8][4] = {};

  for (int page = from, stage = 0; page < to; ++page, stage = stage + 1 == decode_stages ? 0 : stage + 1) {
    cp_async_wait<decode_stages - 2>();
    __syncthreads();
    if (page + decode_stages - 1 < to) load(page + decode_stages - 1, (stage + decode_stages - 1) % decode_stages);
    cp_async_commit();
    const uint32_t keys = shared_address(shared) + stage * 2 * page_bytes, values = keys + page_bytes;

    float logits[2][4] = {};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t b[4];
        ldmatrix4(b, keys + swizzled(warp * 16 + n * 8 + lane % 8, half * 4 + lane / 8));
        mma16816(logits[n], q[half * 2][0], 0, q[half * 2][1], 0, b[0], b[1]);
        mma16816(logits[n], q[half * 2 + 1][0], 0, q[half * 2 + 1][1], 0, b[2], b[3]);
      }
    }
    float page_largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int key = page * 64 + int(warp) * 16 + n * 8 + int(t) * 2 + k;
        logits[n][k] = key < context && key >= start ? logits[n][k] * scale : -INFINITY;
        page_largest = fmaxf(page_largest, logits[n][k]);
      }
    }
    page_largest = fmaxf(page_largest, __shfl_xor_sync(~0u, page_largest, 1));
    page_largest = fmaxf(page_largest, __shfl_xor_sync(~0u, page_largest, 2));
    const float now = fmaxf(largest, page_largest);
    const float base = now == -INFINITY ? 0 : now;
    const float keep = exp2f(largest - base);
    largest = now;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int k = 0; k < 2; ++k) sum += logits[n][k] = exp2f(logits[n][k] - base);
    }
    total = total * keep + sum;
    const uint32_t a0 = pack(logits[0][0], logits[0][1]), a2 = pack(logits[1][0], logits[1][1]);
#pragma unroll
    for (int d = 0; d < 8; d += 2) {
      uint32_t b[4];
      ldmatrix4_trans(b, values + swizzled(warp * 16 + lane % 16, d + lane / 16));
      out[d][0] *= keep, out[d][1] *= keep, out[d + 1][0] *= keep, out[d + 1][1] *= keep;
      mma16816(out[d], a0, 0, a2, 0, b[0], b[1]);
      mma16816(out[d + 1], a0, 0, a2, 0, b[2], b[3]);
    }
  }
  total += __shfl_xor_sync(~0u, total, 1);
  total += __shfl_xor_sync(~0u, total, 2);

#pragma unroll
  for (int d = 0; d < 8; ++d) {
    merged[warp][g][d * 8 + t * 2] = out[d][0];
    merged[warp][g][d * 8 + t * 2 + 1] = out[d][1];
  }
  if (t == 0) merged[warp][g][64] = largest, merged[warp][g][65] = total;
  __syncthreads();

  // Joins parts (64 sums, largest, total) in order; thread i holds head i / 16 and 4 columns.
  const uint32_t head = threadIdx.x / 16, column = threadIdx.x % 16 * 4;
  float m = -INFINITY, l = 0, sum[4] = {};
  const auto join = [&](float part_m, float part_l, const float (&part)[4]) {
    const float now = fmaxf(m, part_m);
    if (now == -INFINITY) return;
    const float a = exp2f(m - now), b = exp2f(part_m - now);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = sum[i] * a + part[i] * b;
    l = l * a + part_l * b;
    m = now;
  };
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const float* part = merged[w][head];
    join(part[64], part[65], {part[column], part[column + 1], part[column + 2], part[column + 3]});
  }
  if (active > 1) {
    float* parts = p.partial + (uint64_t(seq) * p.kv_heads + kv_head) * p.splits * 8 * 66;
    float* mine = parts + (uint64_t(split) * 8 + head) * 66;
#pragma unroll
    for (int i = 0; i < 4; ++i) __stcg(mine + column + i, sum[i]);
    if (column == 0) __stcg(mine + 64, m), __stcg(mine + 65, l);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      uint32_t* arrived = p.arrived + seq * p.kv_heads + kv_head;
      last = atomicAdd(arrived, 1) == active - 1;
      if (last) *arrived = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    m = -INFINITY, l = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = 0;
    for (uint32_t s = 0; s < active; ++s) {
      const float* part = parts + (uint64_t(s) * 8 + head) * 66;
      join(__ldcg(part + 64), __ldcg(part + 65),
           {__ldcg(part + column), __ldcg(part + column + 1), __ldcg(part + column + 2), __ldcg(part + column + 3)});
    }
  }
  if (head >= group) return;
  const float sink = to_float(p.sinks[kv_head * group + head]) * log2e;
  join(sink, 1, {0, 0, 0, 0});
  const float inverse = 1 / l;
  uint16_t* row = p.out + (uint64_t(seq) * p.heads + kv_head * group + head) * 64 + column;
  *reinterpret_cast<uint2*>(row) = make_uint2(pack(sum[0] * inverse, sum[1] * inverse), pack(sum[2] * inverse, sum[3] * inverse));
}

}  // namespace kl
