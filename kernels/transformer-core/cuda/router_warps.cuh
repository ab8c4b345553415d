// Norm and router where there are no clusters: a block takes 16 tokens, an eighth of the columns a warp, and multiplies by tensor
// cores straight from global memory. Any number of columns (a multiple of 32).
#pragma once
#include "router.cuh"

namespace kl {

constexpr int warps_tokens = 16, warps_experts = 32;  // of a block; of one pass

__device__ __forceinline__ void route_warps(const RouterParams& p) {
  extern __shared__ __align__(16) float logits[];  // [16, experts]
  __shared__ float squares[8][warps_tokens], sums[8][warps_tokens][warps_experts];
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t base = blockIdx.x * warps_tokens, chunks = p.hidden / 32;
  pdl_launch();
  pdl_wait();
  uint32_t token[2];
  bool there[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    token[r] = base + g + 8 * r;
    there[r] = token[r] < p.tokens && p.row_seq[token[r]] >= 0;
  }
  const auto load = [&](int r, uint32_t column, float (&v)[8]) {
    load_stream8(p.x, uint64_t(token[r]) * p.hidden + column, p.norm_weight != nullptr && p.x_f32, v);
  };

  float factor[2] = {1, 1};
  if (p.norm_weight != nullptr) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float square = 0;
      for (uint32_t chunk = warp; chunk < chunks && there[r]; chunk += 8) {
        float v[8];
        load(r, chunk * 32 + t * 8, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) square += v[k] * v[k];
      }
      square += __shfl_xor_sync(~0u, square, 1);
      square += __shfl_xor_sync(~0u, square, 2);
      if (t == 0) squares[warp][g + 8 * r] = square;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float square = 0;
#pragma unroll
      for (int w = 0; w < 8; ++w) square += squares[w][g + 8 * r];
      factor[r] = rsqrtf(square / float(p.hidden) + p.eps);
    }
  }

  for (uint32_t first = 0; first < p.experts; first += warps_experts) {
    float d[4][4] = {};
    for (uint32_t chunk = warp; chunk < chunks; chunk += 8) {
      const uint32_t column = chunk * 32 + t * 8;
      uint4 row[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        row[r] = make_uint4(0, 0, 0, 0);
        if (!there[r]) continue;
        float v[8];
        load(r, column, v);
        if (p.norm_weight != nullptr) {
          float w[8];
          load_bf16x8(p.norm_weight + column, w);
#pragma unroll
          for (int k = 0; k < 8; ++k) v[k] = v[k] * factor[r] * w[k];
        }
        row[r] = pack8(v);
        if (p.norm_weight != nullptr && first == 0) *reinterpret_cast<uint4*>(p.normed + uint64_t(token[r]) * p.hidden + column) = row[r];
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const uint32_t expert = min(first + n * 8 + g, p.experts - 1);
        const uint4 w = *reinterpret_cast<const uint4*>(p.weight + uint64_t(expert) * p.hidden + column);
        mma16816(d[n], row[0].x, row[1].x, row[0].y, row[1].y, w.x, w.y);
        mma16816(d[n], row[0].z, row[1].z, row[0].w, row[1].w, w.z, w.w);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) sums[warp][g + k / 2 * 8][n * 8 + t * 2 + k % 2] = d[n][k];
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < warps_tokens * warps_experts; i += 256) {
      const uint32_t slot = i / warps_experts, expert = i % warps_experts;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < 8; ++w) sum += sums[w][slot][expert];
      if (first + expert < p.experts) logits[slot * p.experts + first + expert] = sum;
    }
    __syncthreads();
  }

#pragma unroll 1
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t slot = warp * 2 + i, own = base + slot;
    if (own >= p.tokens || p.row_seq[own] < 0) continue;
    choose(p, own, [&](uint32_t e) { return logits[slot * p.experts + e]; });
  }
}

}  // namespace kl
