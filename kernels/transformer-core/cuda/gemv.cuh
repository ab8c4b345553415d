// Products of up to 8 rows of x with a row-major bf16 weight: a stream of weight bytes, read once.
//
// A block owns some units of 8 weight rows. One warp fills a ring in shared memory with whole rows by bulk copies, from before
// the wait for the previous launch on: weights are constant. Eleven warps hold x in registers, each a fixed share of the columns,
// and multiply by tensor cores (8 weight rows are the columns of an m16n8k16); their sums are added in a fixed order.
#pragma once
#include "cuda/device.cuh"
#include "params.h"

namespace kl {

enum class Output { act, residual, logits, qkv };

__device__ __forceinline__ void rope_and_store(const Epilogue& e, uint32_t token, int seq, uint32_t head, uint32_t i, float a,
                                               float b) {
  const int position = e.positions[token];
  if (head < e.heads + e.kv_heads) {
    float sine, cosine;
    sincosf(float(position) * e.inv_freq[i], &sine, &cosine);
    sine *= e.rope_scale, cosine *= e.rope_scale;
    const float rotated = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = rotated;
  }
  uint16_t* at;
  if (head < e.heads) {
    at = static_cast<uint16_t*>(e.out) + (uint64_t(token) * e.heads + head) * 64 + i;
  } else {
    const uint32_t which = head >= e.heads + e.kv_heads;
    const int page = e.block_table[uint64_t(seq) * e.block_table_stride + position / 64];
    if (page < 0) return;
    const uint32_t kv_head = head - e.heads - which * e.kv_heads;
    at = e.kv + (((uint64_t(page) * 2 + which) * e.kv_heads + kv_head) * 64 + position % 64) * 64 + i;
  }
  at[0] = to_bf16(a);
  at[32] = to_bf16(b);
}

// Weight row of a unit's n-th row. For qkv a unit holds 4 rotation pairs of one head, so that both halves meet in one thread.
template <Output kind>
__device__ __forceinline__ uint32_t unit_row(uint32_t unit, uint32_t n) {
  if constexpr (kind == Output::qkv) return (unit / 8) * 64 + (unit % 8) * 4 + n / 2 + (n % 2) * 32;
  return unit * 8 + n;
}

template <Output kind>
__device__ __forceinline__ void store_pair(const Epilogue& e, uint32_t token, int seq, uint32_t unit, uint32_t pair, float a,
                                           float b) {
  const uint32_t row = unit_row<kind>(unit, 2 * pair), next = unit_row<kind>(unit, 2 * pair + 1);
  if (e.bias != nullptr) a += to_float(e.bias[row]), b += to_float(e.bias[next]);
  if constexpr (kind == Output::qkv) {
    rope_and_store(e, token, seq, row / 64, row % 64, a, b);
  } else {
    const uint64_t at = uint64_t(token) * e.features + row;
    if constexpr (kind == Output::residual) {
      store_stream(e.out, at, load_stream(e.out, at, e.stream_f32) + a, e.stream_f32);
      store_stream(e.out, at + 1, load_stream(e.out, at + 1, e.stream_f32) + b, e.stream_f32);
    } else if constexpr (kind == Output::logits) {
      *reinterpret_cast<float2*>(static_cast<float*>(e.out) + at) = make_float2(a, b);
    } else {
      *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(e.out) + at) = pack(a, b);
    }
  }
}

constexpr int gemv_warps = 11, gemv_threads = 384, gemv_group = 5;
constexpr int gemv_sums = 2 * gemv_group * gemv_warps * 64 * 4, gemv_tail = gemv_sums + 512;

// max_chunks: the most 32-column chunks one warp holds, ceil(depth / 32 / 11).
template <Output kind, int max_chunks>
__device__ __forceinline__ void gemv(const GemvParams& p) {
  extern __shared__ __align__(128) uint8_t shared[];
  const uint32_t stage_bytes = 8 * p.row_stride;
  uint8_t* tail = shared + p.stages * stage_bytes;
  float* sums = reinterpret_cast<float*>(tail);
  float* squares = reinterpret_cast<float*>(tail + gemv_sums);  // [warps, 8]
  uint64_t* full = reinterpret_cast<uint64_t*>(tail + gemv_sums + 384);
  uint64_t* empty = full + 8;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t first = blockIdx.x * p.units_per_block;
  const uint32_t count = min(p.units_per_block, p.units - first);
  const uint32_t chunks = p.depth / 32;

  if (threadIdx.x == 0) {
    for (uint32_t s = 0; s < p.stages; ++s) barrier_init(full + s, 1), barrier_init(empty + s, gemv_warps);
    barrier_init_fence();
  }
  __syncthreads();
  pdl_launch();

  if (warp == gemv_warps) {
    const uint64_t policy = evict_first();
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t s = i % p.stages, turn = i / p.stages;
      if (turn > 0) barrier_wait(empty + s, (turn - 1) & 1);
      if (lane == 0) barrier_expect(full + s, 8 * p.depth * 2);
      __syncwarp();
      if (lane < 8) {
        bulk_copy(shared + s * stage_bytes + lane * p.row_stride,
                  p.weight + uint64_t(unit_row<kind>(first + i, lane)) * p.depth, p.depth * 2, full + s, policy);
      }
    }
    pdl_wait();
    return;
  }

  pdl_wait();
  uint4 x[max_chunks];
  const int mapped = g < p.tokens ? p.rows[g] : -1;
  const uint64_t row = uint64_t(p.gather ? (mapped < 0 ? 0 : mapped) : g) * p.depth;
  if (p.norm_weight != nullptr) {
    float square = 0;
#pragma unroll
    for (int j = 0; j < max_chunks; ++j) {
      const uint32_t chunk = warp + j * gemv_warps;
      if (mapped >= 0 && chunk < chunks) {
        float v[8];
        load_stream8(p.x, row + chunk * 32 + t * 8, p.x_f32, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) square += v[k] * v[k];
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
    for (int j = 0; j < max_chunks; ++j) {
      const uint32_t chunk = warp + j * gemv_warps;
      x[j] = make_uint4(0, 0, 0, 0);
      if (mapped >= 0 && chunk < chunks) {
        float v[8], w[8];
        load_stream8(p.x, row + chunk * 32 + t * 8, p.x_f32, v);
        load_bf16x8(p.norm_weight + chunk * 32 + t * 8, w);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = v[k] * factor * w[k];
        x[j] = pack8(v);
      }
    }
  } else {
#pragma unroll
    for (int j = 0; j < max_chunks; ++j) {
      const uint32_t chunk = warp + j * gemv_warps;
      x[j] = make_uint4(0, 0, 0, 0);
      if (mapped >= 0 && chunk < chunks) {
        x[j] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.x) + row + chunk * 32 + t * 8);
      }
    }
  }

  uint32_t buffer = 0;
  for (uint32_t begin = 0; begin < count; begin += gemv_group, buffer ^= 1) {
    const uint32_t here = min(uint32_t(gemv_group), count - begin);
    float* group_sums = sums + buffer * (gemv_group * gemv_warps * 64);
    for (uint32_t u = 0; u < here; ++u) {
      const uint32_t s = (begin + u) % p.stages;
      barrier_wait(full + s, ((begin + u) / p.stages) & 1);
      const uint8_t* w = shared + s * stage_bytes + g * p.row_stride + t * 16;
      float d[2][4] = {};
#pragma unroll
      for (int j = 0; j < max_chunks; ++j) {
        const uint32_t chunk = warp + j * gemv_warps;
        if (chunk < chunks) {
          const uint4 b = *reinterpret_cast<const uint4*>(w + chunk * 64);
          mma16816(d[0], x[j].x, 0, x[j].y, 0, b.x, b.y);
          mma16816(d[1], x[j].z, 0, x[j].w, 0, b.z, b.w);
        }
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(empty + s);
      reinterpret_cast<float2*>(group_sums + (u * gemv_warps + warp) * 64)[g * 4 + t] =
          make_float2(d[0][0] + d[1][0], d[0][1] + d[1][1]);
    }
    named_barrier(1, gemv_warps * 32);
    const uint32_t item = threadIdx.x, u = item / 32, token = item % 32 / 4, pair = item % 4;
    if (u < here && token < p.tokens) {
      const int there = p.rows[token];
      if (there >= 0) {
        float a = 0, b = 0;
#pragma unroll
        for (int w = 0; w < gemv_warps; ++w) {
          const float2 v = reinterpret_cast<const float2*>(group_sums + (u * gemv_warps + w) * 64)[token * 4 + pair];
          a += v.x, b += v.y;
        }
        store_pair<kind>(p.epilogue, token, there, first + begin + u, pair, a, b);
      }
    }
  }
}

}  // namespace kl
