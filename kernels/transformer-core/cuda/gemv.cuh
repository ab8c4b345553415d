// Products of up to 8 rows of x with a row-major bf16 weight: a stream of weight bytes, read once.
//
// A block owns some units of 8 weight rows. One warp fills a ring in shared memory with whole rows by bulk copies, from before
// the wait for the previous launch on: weights are constant. Eleven warps hold x in registers, each a fixed share of the columns,
// and multiply by tensor cores (8 weight rows are the columns of an m16n8k16); their sums are added in a fixed order.
#pragma once
#include "cuda/pipeline.cuh"
#include "params.h"

namespace kl {

enum class Output { act, residual, logits, qkv };

// Weight row of a unit's n-th row. For qkv a unit holds 4 rotation pairs of one head, so that both halves meet in one thread.
template <Output kind>
__device__ __forceinline__ uint32_t unit_row(uint32_t unit, uint32_t n) {
  if constexpr (kind == Output::qkv) return (unit / 8) * 64 + (unit % 8) * 4 + n / 2 + (n % 2) * 32;
  return unit * 8 + n;
}

// What a result's thread can read before the sums are there: bias, the stream's old values, the place in the cache.
struct Early {
  float bias[2], old[2], inverse;
  int position, page;
};
template <Output kind>
__device__ __forceinline__ Early load_early(const Epilogue& e, uint32_t token, int seq, uint32_t unit, uint32_t pair) {
  const uint32_t row = unit_row<kind>(unit, 2 * pair), next = unit_row<kind>(unit, 2 * pair + 1);
  Early early = {};
  if (e.bias != nullptr) early.bias[0] = to_float(e.bias[row]), early.bias[1] = to_float(e.bias[next]);
  if constexpr (kind == Output::qkv) {
    early.position = e.positions[token];
    early.inverse = e.inv_freq[row % 64];
  } else if constexpr (kind == Output::residual) {
    const uint64_t at = uint64_t(token) * e.features + row;
    early.old[0] = load_stream(e.out, at, e.stream_f32), early.old[1] = load_stream(e.out, at + 1, e.stream_f32);
  }
  return early;
}

template <Output kind>
__device__ __forceinline__ void store_pair(const Epilogue& e, const Early& early, uint32_t token, uint32_t unit, uint32_t pair, float a, float b) {
  a += early.bias[0], b += early.bias[1];
  if constexpr (kind == Output::qkv) {
    const uint32_t row = unit_row<kind>(unit, 2 * pair), head = row / 64, i = row % 64;
    if (head < e.heads + e.kv_heads) {
      float sine, cosine;
      sincosf(float(early.position) * early.inverse, &sine, &cosine);
      sine *= e.rope_scale, cosine *= e.rope_scale;
      const float rotated = a * cosine - b * sine;
      b = b * cosine + a * sine;
      a = rotated;
    }
    uint16_t* at;
    if (head < e.heads) {
      at = static_cast<uint16_t*>(e.out) + (uint64_t(token) * e.heads + head) * 64 + i;
    } else {
      if (early.page < 0) return;
      const uint32_t which = head >= e.heads + e.kv_heads, kv_head = head - e.heads - which * e.kv_heads;
      at = e.kv + (((uint64_t(early.page) * 2 + which) * e.kv_heads + kv_head) * 64 + early.position % 64) * 64 + i;
    }
    at[0] = to_bf16(a);
    at[32] = to_bf16(b);
  } else {
    const uint64_t at = uint64_t(token) * e.features + unit * 8 + 2 * pair;
    if constexpr (kind == Output::residual) {
      a += early.old[0], b += early.old[1];
      if (e.stream_f32) {
        *reinterpret_cast<float2*>(static_cast<float*>(e.out) + at) = make_float2(a, b);
      } else {
        *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(e.out) + at) = pack(a, b);
      }
    } else if constexpr (kind == Output::logits) {
      *reinterpret_cast<float2*>(static_cast<float*>(e.out) + at) = make_float2(a, b);
    } else {
      *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(e.out) + at) = pack(a, b);
    }
  }
}

constexpr int gemv_warps = 11, gemv_threads = 384;

// max_chunks: the most 32-column chunks of half a row that one warp holds. A stage of the ring is half of a unit's 8 rows.
template <Output kind, int max_chunks, bool normed>
__device__ __forceinline__ void gemv(const GemvParams& p) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float squares[gemv_warps * 8];
  __shared__ uint64_t full[8], empty[8];
  const uint32_t stage_bytes = 8 * p.row_stride, tokens = p.tokens;
  // Sums [unit, warp, token, 8] of 6 units: of all that a block has, or else of two groups of 3 that take turns.
  float* sums = reinterpret_cast<float*>(shared + p.stages * stage_bytes);
  uint16_t* norm_weight = reinterpret_cast<uint16_t*>(sums + 6 * gemv_warps * 8 * tokens);
  const uint32_t group = p.units_per_block <= 6 ? 6 : 3;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t first = blockIdx.x * p.units_per_block;
  const uint32_t count = min(p.units_per_block, p.units - first);
  const uint32_t chunks = p.depth / 32, half = (chunks + 1) / 2;

  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < p.stages; ++s) barrier_init(full + s, feed_arrivals), barrier_init(empty + s, gemv_warps * release_arrivals);
    barrier_init_fence();
  }
  __syncthreads();
  pdl_launch();

  if (warp == gemv_warps) {
    const uint64_t policy = evict_first();
    for (uint32_t i = 0; i < count * 2; ++i) {
      const uint32_t s = i % p.stages, turn = i / p.stages, begin = (i & 1) * half, columns = (min(begin + half, chunks) - begin) * 32;
      if (turn > 0) barrier_wait(empty + s, (turn - 1) & 1);
      if (lane == 0) barrier_expect(full + s, 8 * columns * 2);
      __syncwarp();
      const uint16_t* weight = p.weight + begin * 32;
      uint8_t* stage = shared + s * stage_bytes;
      if constexpr (sm90a) {
        if (lane < 8) bulk_copy(stage + lane * p.row_stride, weight + uint64_t(unit_row<kind>(first + i / 2, lane)) * p.depth, columns * 2, full + s, policy);
      } else {
        for (uint32_t n = 0; n < 8; ++n) {
          bulk_copy(stage + n * p.row_stride, weight + uint64_t(unit_row<kind>(first + i / 2, n)) * p.depth, columns * 2, full + s, policy);
        }
      }
      feed_done(full + s);
    }
    feed_end();
    pdl_wait();
    return;
  }

  const uint32_t item = threadIdx.x, item_unit = item / (tokens * 4), item_token = item / 4 % tokens, item_pair = item % 4;
  if constexpr (normed) {  // constant: before the wait
    for (uint32_t i = threadIdx.x; i < p.depth / 8; i += gemv_warps * 32) {
      reinterpret_cast<uint4*>(norm_weight)[i] = reinterpret_cast<const uint4*>(p.norm_weight)[i];
    }
  }
  pdl_wait();
  const int mapped = g < tokens ? p.rows[g] : -1;
  const int item_row = item_unit < 6 ? p.rows[item_token] : -1;
  const uint64_t row = uint64_t(p.gather ? max(mapped, 0) : g) * p.depth;
  uint4 x[2][max_chunks];
#pragma unroll
  for (int q = 0; q < 2; ++q) {
#pragma unroll
    for (int j = 0; j < max_chunks; ++j) {
      const uint32_t c = warp + j * gemv_warps, chunk = q * half + c;
      x[q][j] = make_uint4(0, 0, 0, 0);
      if (mapped >= 0 && c < half && chunk < chunks && !(normed && p.x_f32)) {
        x[q][j] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.x) + row + chunk * 32 + t * 8);
      }
    }
  }
  // In flight beside x; first used when the sums are there.
  Early early = {};
  if (item_row >= 0 && item_unit < min(group, count)) early = load_early<kind>(p.epilogue, item_token, item_row, first + item_unit, item_pair);
  if constexpr (normed) {
    float square = 0;
    if (p.x_f32) {
      for (uint32_t chunk = warp; chunk < chunks && mapped >= 0; chunk += gemv_warps) {
        float v[8];
        load_stream8(p.x, row + chunk * 32 + t * 8, true, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) square += v[k] * v[k];
      }
    } else {
#pragma unroll
      for (int q = 0; q < 2; ++q) {
#pragma unroll
        for (int j = 0; j < max_chunks; ++j) {
          const uint32_t words[4] = {x[q][j].x, x[q][j].y, x[q][j].z, x[q][j].w};
#pragma unroll
          for (int k = 0; k < 4; ++k) square += low(words[k]) * low(words[k]) + high(words[k]) * high(words[k]);
        }
      }
    }
    square += __shfl_xor_sync(~0u, square, 1);
    square += __shfl_xor_sync(~0u, square, 2);
    if (t == 0) squares[warp * 8 + g] = square;
    named_barrier(1, gemv_warps * 32);
    square = 0;
#pragma unroll
    for (int w = 0; w < gemv_warps; ++w) square += squares[w * 8 + g];
    const float factor = rsqrtf(square / float(p.depth) + p.eps);
#pragma unroll
    for (int q = 0; q < 2; ++q) {
#pragma unroll
      for (int j = 0; j < max_chunks; ++j) {
        const uint32_t c = warp + j * gemv_warps, chunk = q * half + c;
        if (mapped >= 0 && c < half && chunk < chunks) {
          float v[8], w[8];
          if (p.x_f32) {
            load_stream8(p.x, row + chunk * 32 + t * 8, true, v);
          } else {
            v[0] = low(x[q][j].x), v[1] = high(x[q][j].x), v[2] = low(x[q][j].y), v[3] = high(x[q][j].y);
            v[4] = low(x[q][j].z), v[5] = high(x[q][j].z), v[6] = low(x[q][j].w), v[7] = high(x[q][j].w);
          }
          load_bf16x8(norm_weight + chunk * 32 + t * 8, w);
#pragma unroll
          for (int k = 0; k < 8; ++k) v[k] = v[k] * factor * w[k];
          x[q][j] = pack8(v);
        }
      }
    }
  }

  if constexpr (kind == Output::qkv) {
    if (item_row >= 0 && item_unit < min(group, count)) {
      early.page = p.epilogue.block_table[uint64_t(item_row) * p.epilogue.block_table_stride + early.position / 64];
    }
  }

  uint32_t buffer = 0, s = 0, phase = 0;
  for (uint32_t begin = 0; begin < count; begin += group, buffer ^= 1) {
    const uint32_t here = min(group, count - begin);
    const bool mine = item_unit < here && item_row >= 0;
    if (mine && begin > 0) early = load_early<kind>(p.epilogue, item_token, item_row, first + begin + item_unit, item_pair);
    if constexpr (kind == Output::qkv) {
      if (mine && begin > 0) early.page = p.epilogue.block_table[uint64_t(item_row) * p.epilogue.block_table_stride + early.position / 64];
    }
    float* group_sums = sums + buffer * (3 * gemv_warps * 8) * tokens;
    for (uint32_t u = 0; u < here; ++u) {
      float d[2][4] = {};
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        barrier_wait(full + s, phase);
        const uint8_t* w = shared + s * stage_bytes + g * p.row_stride + t * 16;
#pragma unroll
        for (int j = 0; j < max_chunks; ++j) {
          const uint32_t c = warp + j * gemv_warps;
          if (c < half && q * half + c < chunks) {
            const uint4 b = *reinterpret_cast<const uint4*>(w + c * 64);
            mma16816(d[0], x[q][j].x, 0, x[q][j].y, 0, b.x, b.y);
            mma16816(d[1], x[q][j].z, 0, x[q][j].w, 0, b.z, b.w);
          }
        }
        barrier_release(empty + s, lane);
        if (++s == p.stages) s = 0, phase ^= 1;
      }
      if (g < tokens) {
        reinterpret_cast<float2*>(group_sums + (u * gemv_warps + warp) * 8 * tokens)[g * 4 + t] =
            make_float2(d[0][0] + d[1][0], d[0][1] + d[1][1]);
      }
    }
    named_barrier(1, gemv_warps * 32);
    if (mine) {
      float a = 0, b = 0;
#pragma unroll
      for (int w = 0; w < gemv_warps; ++w) {
        const float2 v = reinterpret_cast<const float2*>(group_sums + (item_unit * gemv_warps + w) * 8 * tokens)[item_token * 4 + item_pair];
        a += v.x, b += v.y;
      }
      store_pair<kind>(p.epilogue, early, item_token, first + begin + item_unit, item_pair, a, b);
    }
  }
}

}  // namespace kl
