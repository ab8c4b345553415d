// Norm and router for 8 tokens by a cluster of 8 blocks: a block owns an eighth of the columns, its router weights are in flight
// before the wait. Sums of squares and partial logits are exchanged through shared memory; block i ends with token i.
#pragma once
#include "cuda/pipeline.cuh"
#include "params.h"

namespace kl {

constexpr int max_experts = 256, max_top_k = 8;

// The top_k largest of logit(expert) + bias and the softmax over them, by one warp.
template <class Logit>
__device__ __forceinline__ void choose(const RouterParams& p, uint32_t token, const Logit& logit) {
  const uint32_t lane = threadIdx.x % 32;
  float logits[max_experts / 32];
#pragma unroll
  for (int j = 0; j < max_experts / 32; ++j) {
    const uint32_t e = lane + 32 * j;
    logits[j] = e < p.experts ? logit(e) + to_float(p.bias[e]) : -INFINITY;
  }
  float chosen = 0, largest = 0, total = 0;
  int id = 0;
  for (uint32_t k = 0; k < p.top_k; ++k) {
    float best = -INFINITY;
    int at = max_experts;
#pragma unroll
    for (int j = 0; j < max_experts / 32; ++j) {
      if (logits[j] > best) best = logits[j], at = int(lane) + 32 * j;
    }
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
      const float other = __shfl_xor_sync(~0u, best, d);
      const int other_at = __shfl_xor_sync(~0u, at, d);
      if (other > best || (other == best && other_at < at)) best = other, at = other_at;
    }
    if (k == 0) largest = best;
    total += expf(best - largest);
    if (lane == k) chosen = best, id = at;
#pragma unroll
    for (int j = 0; j < max_experts / 32; ++j) {
      if (at == int(lane) + 32 * j) logits[j] = -INFINITY;
    }
  }
  if (lane < p.top_k) {
    p.ids[token * p.top_k + lane] = id;
    p.weights[token * p.top_k + lane] = expf(chosen - largest) / total;
  }
}

#if KL_SM90A
__device__ __forceinline__ void route(const RouterParams& p) {
  extern __shared__ __align__(16) float y[];  // [8, slice]
  __shared__ float squares[8 * 8];            // [rank, token]
  __shared__ float partial[8 * max_experts];  // [rank, expert] of this block's own token
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, rank = cluster_rank();
  const uint32_t slice = p.hidden / 8, chunks = slice / 8, column = rank * slice;
  const uint32_t base = blockIdx.x / 8 * 8;

  cluster_arrive();
  // The first four experts of each warp, two chunks a lane: all of them at 32 experts of 2,880 columns.
  uint4 early[4][2];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint32_t expert = warp * 4 + e, chunk = lane + 32 * c;
      early[e][c] = make_uint4(0, 0, 0, 0);
      if (expert < p.experts && chunk < chunks) {
        early[e][c] = *reinterpret_cast<const uint4*>(p.weight + uint64_t(expert) * p.hidden + column + chunk * 8);
      }
    }
  }
  pdl_launch();
  pdl_wait();
  __syncwarp();
  cluster_wait();  // every peer has begun: its shared memory may be written

  const uint32_t token = base + warp;
  const bool there = token < p.tokens && p.row_seq[token] >= 0;
  float factor = 1;
  if (p.norm_weight != nullptr) {
    float square = 0;
    if (there) {
      for (uint32_t chunk = lane; chunk < chunks; chunk += 32) {
        float v[8];
        load_stream8(p.x, uint64_t(token) * p.hidden + column + chunk * 8, p.x_f32, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) square += v[k] * v[k];
      }
    }
    square = warp_sum(square);
    if (lane < 8) peer_store(squares + rank * 8 + warp, lane, square);
    cluster_sync();
    square = 0;
#pragma unroll
    for (int r = 0; r < 8; ++r) square += squares[r * 8 + warp];
    factor = rsqrtf(square / float(p.hidden) + p.eps);
  }
  for (uint32_t chunk = lane; chunk < chunks; chunk += 32) {
    float v[8] = {};
    if (there) {
      const uint64_t at = uint64_t(token) * p.hidden + column + chunk * 8;
      load_stream8(p.x, at, p.norm_weight != nullptr && p.x_f32, v);
      if (p.norm_weight != nullptr) {
        float w[8];
        load_bf16x8(p.norm_weight + column + chunk * 8, w);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = v[k] * factor * w[k];
        const uint4 rounded = pack8(v);
        *reinterpret_cast<uint4*>(p.normed + at) = rounded;
        v[0] = low(rounded.x), v[1] = high(rounded.x), v[2] = low(rounded.y), v[3] = high(rounded.y);
        v[4] = low(rounded.z), v[5] = high(rounded.z), v[6] = low(rounded.w), v[7] = high(rounded.w);
      }
    }
    float4* to = reinterpret_cast<float4*>(y + warp * slice + chunk * 8);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
  }
  __syncthreads();

  const uint32_t tokens_here = min(8u, p.tokens - base);
  for (uint32_t e0 = warp * 4; e0 < p.experts; e0 += 32) {
    for (uint32_t i = 0; i < tokens_here; ++i) {
      float sum[4] = {};
      for (uint32_t c = 0, chunk = lane; chunk < chunks; chunk += 32, ++c) {
        const float4* from = reinterpret_cast<const float4*>(y + i * slice + chunk * 8);
        const float4 v0 = from[0], v1 = from[1];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          uint4 w = c == 0 ? early[e][0] : early[e][1];
          if (e0 >= 32 || c > 1) {
            if (e0 + e >= p.experts) continue;
            w = *reinterpret_cast<const uint4*>(p.weight + uint64_t(e0 + e) * p.hidden + column + chunk * 8);
          }
          sum[e] += v0.x * low(w.x) + v0.y * high(w.x) + v0.z * low(w.y) + v0.w * high(w.y) + v1.x * low(w.z) +
                    v1.y * high(w.z) + v1.z * low(w.w) + v1.w * high(w.w);
        }
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[e] = warp_sum(sum[e]);
      const float mine = lane == 0 ? sum[0] : lane == 1 ? sum[1] : lane == 2 ? sum[2] : sum[3];
      if (lane < 4 && e0 + lane < p.experts) peer_store(partial + rank * max_experts + e0 + lane, i, mine);
    }
  }
  cluster_sync();

  const uint32_t own = base + rank;
  if (warp != 0 || own >= p.tokens || p.row_seq[own] < 0) return;
  choose(p, own, [&](uint32_t e) {
    float v = 0;
#pragma unroll
    for (int r = 0; r < 8; ++r) v += partial[r * max_experts + e];
    return v;
  });
}

// More tokens: a block takes 16, norms them into shared memory and multiplies by tensor cores, an eighth of the columns a warp.
constexpr int many_tokens = 16;
__device__ __forceinline__ void route_many(const RouterParams& p) {
  extern __shared__ __align__(128) uint8_t rows[];  // [16, stride] bf16, then sums [8, 16, experts] f32
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t stride = p.hidden * 2 + 64, base = blockIdx.x * many_tokens, chunks = p.hidden / 32;
  float* sums = reinterpret_cast<float*>(rows + many_tokens * stride);
  pdl_launch();
  pdl_wait();
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t slot = warp * 2 + i, token = base + slot;
    const bool there = token < p.tokens && p.row_seq[token] >= 0;
    const uint64_t row = uint64_t(token) * p.hidden;
    float square = 0;
    if (there && p.norm_weight != nullptr) {
      for (uint32_t c = lane; c < p.hidden / 8; c += 32) {
        float v[8];
        load_stream8(p.x, row + c * 8, p.x_f32, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) square += v[k] * v[k];
      }
    }
    const float factor = rsqrtf(warp_sum(square) / float(p.hidden) + p.eps);
    for (uint32_t c = lane; c < p.hidden / 8; c += 32) {
      uint4 y = make_uint4(0, 0, 0, 0);
      if (there && p.norm_weight != nullptr) {
        float v[8], w[8];
        load_stream8(p.x, row + c * 8, p.x_f32, v);
        load_bf16x8(p.norm_weight + c * 8, w);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = v[k] * factor * w[k];
        y = pack8(v);
        *reinterpret_cast<uint4*>(p.normed + row + c * 8) = y;
      } else if (there) {
        y = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p.x) + row + c * 8);
      }
      *reinterpret_cast<uint4*>(rows + slot * stride + c * 16) = y;
    }
  }
  __syncthreads();
  for (uint32_t first = 0; first < p.experts; first += 32) {
    float d[4][4] = {};
    for (uint32_t chunk = warp; chunk < chunks; chunk += 8) {
      const uint4 low_rows = *reinterpret_cast<const uint4*>(rows + g * stride + chunk * 64 + t * 16);
      const uint4 high_rows = *reinterpret_cast<const uint4*>(rows + (g + 8) * stride + chunk * 64 + t * 16);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const uint32_t expert = min(first + n * 8 + g, p.experts - 1);
        const uint4 w = *reinterpret_cast<const uint4*>(p.weight + uint64_t(expert) * p.hidden + chunk * 32 + t * 8);
        mma16816(d[n], low_rows.x, high_rows.x, low_rows.y, high_rows.y, w.x, w.y);
        mma16816(d[n], low_rows.z, high_rows.z, low_rows.w, high_rows.w, w.z, w.w);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const uint32_t expert = first + n * 8 + t * 2 + k % 2, slot = g + k / 2 * 8;
        if (expert < p.experts) sums[(warp * many_tokens + slot) * p.experts + expert] = d[n][k];
      }
    }
  }
  __syncthreads();
#pragma unroll 1
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t slot = warp * 2 + i, token = base + slot;
    if (token >= p.tokens || p.row_seq[token] < 0) continue;
    choose(p, token, [&](uint32_t e) {
      float v = 0;
#pragma unroll
      for (int w = 0; w < 8; ++w) v += sums[(w * many_tokens + slot) * p.experts + e];
      return v;
    });
  }
}

#endif

}  // namespace kl
