// C = A W^T for f32 rows of A and weights stored by rows of K values (bf16 or MXFP4).
//
// One K order for every batch size: C[m][n] is a sum over chunks of 512 along K; within a chunk lane l of one
// accumulator takes the values l, l+8, l+16, ... one after the other; then lanes are added (simd.h). No path splits K
// otherwise, so a row's result depends on neither the rows beside it nor the number of workers.
#pragma once
#include "cpu/library.h"
#include "cpu/simd.h"

namespace kl {

constexpr int chunk_k = 512;   // K values per chunk
constexpr int panel_rows = 12; // weight rows widened at a time: 12 x 512 floats, 24 KiB of the first-level cache
constexpr int block_n = 48;    // most weight rows of one block
constexpr int block_m = 96;    // most rows of A of one block: a chunk of them (192 KiB) stays in the second-level cache

// C of one block, by columns: c[n * block_m + m].
using BlockC = float[block_n * block_m];

// Adds MR x NR dot products over k values (a multiple of 8) to c; `first` stores instead.
// Load(n, i) gives the eight weights at i of row n of this tile.
template <int MR, int NR, class Load>
inline void tile(const float* const* a, int64_t a_offset, int k, const Load& load, float* c, bool first) {
  __m256 acc[NR][MR];
#pragma GCC unroll 4
  for (int n = 0; n < NR; n++) {
#pragma GCC unroll 4
    for (int m = 0; m < MR; m++) acc[n][m] = _mm256_setzero_ps();
  }
  const float* row[MR];
#pragma GCC unroll 4
  for (int m = 0; m < MR; m++) row[m] = a[m] + a_offset;
#pragma GCC unroll 2
  for (int i = 0; i < k; i += 8) {
    __m256 w[NR];
#pragma GCC unroll 4
    for (int n = 0; n < NR; n++) w[n] = load(n, i);
#pragma GCC unroll 4
    for (int m = 0; m < MR; m++) {
      const __m256 v = _mm256_loadu_ps(row[m] + i);
#pragma GCC unroll 4
      for (int n = 0; n < NR; n++) acc[n][m] = _mm256_fmadd_ps(v, w[n], acc[n][m]);
    }
  }
  const __m256 zero = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (int n = 0; n < NR; n++) {
    __m128 sum = sum_lanes(acc[n][0], MR > 1 ? acc[n][MR > 1 ? 1 : 0] : zero, MR > 2 ? acc[n][MR > 2 ? 2 : 0] : zero,
                           MR > 3 ? acc[n][MR > 3 ? 3 : 0] : zero);
    float* to = c + n * block_m;
    if (!first) sum = _mm_add_ps(_mm_loadu_ps(to), sum);
    _mm_storeu_ps(to, sum);
  }
}

template <int N>
struct Constant {
  static constexpr int value = N;
};

// Runs `body` with the number of rows, 4 at most, as a Constant.
template <class Body>
inline void with_rows(int rows, const Body& body) {
  if (rows >= 4) return body(Constant<4>{});
  if (rows == 3) return body(Constant<3>{});
  if (rows == 2) return body(Constant<2>{});
  body(Constant<1>{});
}

// Weights as rows of bf16, K values each (a multiple of 8).
struct Bf16Rows {
  const uint16_t* data;
  int64_t k;

  static constexpr int direct_rows = 8; // up to here weights are widened in registers
  static constexpr int64_t padded(int64_t k) { return k; }
  // Where value i of a row of A lies.
  static constexpr int64_t position(int64_t i) { return i; }

  void widen(int64_t row, int64_t k0, int n, float* to) const {
    const uint16_t* from = data + row * k + k0;
    for (int i = 0; i < n; i += 8) _mm256_storeu_ps(to + i, load_bf16(from + i));
  }

  template <int MR, int NR>
  void stream_rows(const float* const* a, int64_t row, int rows, float* c) const {
    const uint16_t* from[NR];
#pragma GCC unroll 4
    for (int n = 0; n < NR; n++) from[n] = data + (row + smaller(n, rows - 1)) * k;
    float sums[NR * block_m];
    for (int64_t k0 = 0; k0 < k; k0 += chunk_k) {
      const auto load = [&](int n, int i) {
        if (i % 32 == 0) _mm_prefetch(from[n] + k0 + i + 512, _MM_HINT_T0);
        return load_bf16(from[n] + k0 + i);
      };
      tile<MR, NR>(a, k0, static_cast<int>(smaller<int64_t>(chunk_k, k - k0)), load, sums, k0 == 0);
    }
    for (int n = 0; n < rows; n++) _mm_storeu_ps(c + n * block_m, _mm_loadu_ps(sums + n * block_m));
  }

  // Four rows of A at a time; twelve weight rows are in the second-level cache when the next four come.
  void direct(const float* const* a, int m, int64_t n0, int64_t n1, float* c) const {
    for (int64_t group = n0; group < n1; group += panel_rows) {
      const int64_t end = smaller<int64_t>(group + panel_rows, n1);
      for (int i = 0; i < m; i += 4) {
        with_rows(m - i, [&](auto count) {
          constexpr int MR = decltype(count)::value;
          constexpr int NR = MR == 4 ? 3 : 4;
          for (int64_t n = group; n < end; n += NR) {
            stream_rows<MR, NR>(a + i, n, static_cast<int>(smaller<int64_t>(NR, end - n)), c + (n - n0) * block_m + i);
          }
        });
      }
    }
  }
};

// A tile on a widened panel. Not inlined: within the loops around it the compiler spills the sums to memory.
template <int MR, int NR>
__attribute__((noinline)) void panel_tile(const float* const* a, int64_t a_offset, int k, const float* panel, float* c,
                                          bool first) {
  tile<MR, NR>(a, a_offset, k, [=](int n, int i) { return _mm256_load_ps(panel + n * chunk_k + i); }, c, first);
}

// C of m rows of A (pointers to rows laid out by W::position, padded to W::padded) with weight rows [n0, n1).
// m <= block_m, n1 - n0 <= block_n. Takes 24 KiB of stack.
template <class W>
inline void gemm_block(const W& w, const float* const* a, int m, int64_t n0, int64_t n1, BlockC& c) {
  if (m <= W::direct_rows) return w.direct(a, m, n0, n1, c);
  const int64_t k = W::padded(w.k);
  alignas(64) float panel[panel_rows * chunk_k];
  for (int64_t k0 = 0; k0 < k; k0 += chunk_k) {
    const int n_k = static_cast<int>(smaller<int64_t>(chunk_k, k - k0));
    for (int64_t n = n0; n < n1; n += panel_rows) {
      const int rows = static_cast<int>(smaller<int64_t>(panel_rows, n1 - n));
      for (int r = 0; r < rows; r++) w.widen(n + r, k0, n_k, panel + r * chunk_k);
      float* to = c + (n - n0) * block_m;
      for (int i = 0; i < m; i += 4) {
        with_rows(m - i, [&](auto count) {
          constexpr int MR = decltype(count)::value;
          int r = 0;
          for (; r + 3 <= rows; r += 3) {
            panel_tile<MR, 3>(a + i, k0, n_k, panel + r * chunk_k, to + r * block_m + i, k0 == 0);
          }
          for (; r < rows; r++) {
            panel_tile<MR, 1>(a + i, k0, n_k, panel + r * chunk_k, to + r * block_m + i, k0 == 0);
          }
        });
      }
    }
  }
}

}  // namespace kl
