// Projections of more than 8 rows: what the matrix product's tiles become.
#pragma once
#include "cuda/gemm.cuh"
#include "gemv.cuh"

namespace kl {

__device__ __forceinline__ void rope_and_store2(const Epilogue& e, uint32_t token, int seq, int position, uint32_t head, uint32_t i,
                                                float (&a)[2], float (&b)[2]) {
  if (head < e.heads + e.kv_heads) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      float sine, cosine;
      sincosf(float(position) * e.inv_freq[i + k], &sine, &cosine);
      sine *= e.rope_scale, cosine *= e.rope_scale;
      const float rotated = a[k] * cosine - b[k] * sine;
      b[k] = b[k] * cosine + a[k] * sine;
      a[k] = rotated;
    }
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
  *reinterpret_cast<uint32_t*>(at) = pack(a[0], a[1]);
  *reinterpret_cast<uint32_t*>(at + 32) = pack(b[0], b[1]);
}

template <Output kind, int block_tokens, int block_features, int stages>
__device__ __forceinline__ void gemm(const GemmParams& p) {
  const uint32_t row = blockIdx.x * block_tokens, feature = blockIdx.y * block_features;
  const Epilogue& e = p.epilogue;
  const auto store = [&](uint32_t token, uint32_t first, float (&d)[block_features / 2]) {
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t at = token + g + half * 8;
      const int seq = at < p.tokens ? p.rows[at] : -1;
      if (seq < 0) continue;
      if constexpr (kind == Output::qkv) {
        const int position = e.positions[at];
#pragma unroll
        for (int j = 0; j < block_features / 8; ++j) {
          if (j % 8 >= 4) continue;
          const uint32_t column = first + j * 8 + t * 2;
          if (column >= p.features) continue;
          const uint32_t bias_a = *reinterpret_cast<const uint32_t*>(e.bias + column), bias_b = *reinterpret_cast<const uint32_t*>(e.bias + column + 32);
          float a[2] = {d[j * 4 + half * 2] + low(bias_a), d[j * 4 + half * 2 + 1] + high(bias_a)};
          float b[2] = {d[(j + 4) * 4 + half * 2] + low(bias_b), d[(j + 4) * 4 + half * 2 + 1] + high(bias_b)};
          rope_and_store2(e, at, seq, position, column / 64, column % 64, a, b);
        }
      } else {
#pragma unroll
        for (int j = 0; j < block_features / 8; ++j) {
          const uint32_t column = first + j * 8 + t * 2;
          if (column >= p.features) continue;
          float a = d[j * 4 + half * 2], b = d[j * 4 + half * 2 + 1];
          if (e.bias != nullptr) {
            const uint32_t bias = *reinterpret_cast<const uint32_t*>(e.bias + column);
            a += low(bias), b += high(bias);
          }
          const uint64_t to = uint64_t(at) * p.features + column;
          if constexpr (kind == Output::logits) {
            *reinterpret_cast<float2*>(static_cast<float*>(e.out) + to) = make_float2(a, b);
          } else if constexpr (kind == Output::residual) {
            if (e.stream_f32) {
              float2* stream = reinterpret_cast<float2*>(static_cast<float*>(e.out) + to);
              const float2 v = *stream;
              *stream = make_float2(v.x + a, v.y + b);
            } else {
              uint32_t* stream = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(e.out) + to);
              const uint32_t v = *stream;
              *stream = pack(low(v) + a, high(v) + b);
            }
          } else {
            *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(e.out) + to) = pack(a, b);
          }
        }
      }
    }
  };
  gemm_tile<block_tokens, block_features, stages, kind == Output::logits>(&p.a, &p.b, Gather{p.x, p.rows}, p.depth, row, feature,
                                                                          p.tokens - row, store);
}

}  // namespace kl
