// One page of keys for one tile of queries: S = scale Q K^T, masked online softmax, O = alpha O + P V.
//
// Every query's numbers depend on the query alone: all 64 places of a page take part, those out of sight with weight 0,
// so it makes no difference which queries share a tile or how a prompt was cut into steps.
#include "attention.h"

namespace fa {
namespace {

// s[m][j + 0..3] = q[m] . k[j + 0..3] for MR queries.
template <int MR>
inline void score(const float* const* q, const float* k, uint64_t dim, float* s) {
  __m256 acc[MR][4];
#pragma GCC unroll 3
  for (int m = 0; m < MR; m++) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) acc[m][n] = _mm256_setzero_ps();
  }
  for (uint64_t i = 0; i < dim; i += 8) {
    __m256 query[MR];
#pragma GCC unroll 3
    for (int m = 0; m < MR; m++) query[m] = _mm256_loadu_ps(q[m] + i);
#pragma GCC unroll 4
    for (uint64_t n = 0; n < 4; n++) {
      const __m256 key = _mm256_loadu_ps(k + n * dim + i);
#pragma GCC unroll 3
      for (int m = 0; m < MR; m++) acc[m][n] = _mm256_fmadd_ps(query[m], key, acc[m][n]);
    }
  }
#pragma GCC unroll 3
  for (int m = 0; m < MR; m++) {
    _mm_storeu_ps(s + m * page, kl::sum_lanes(acc[m][0], acc[m][1], acc[m][2], acc[m][3]));
  }
}

// o[m][0 .. 8 VR) = alpha[m] o[m] + sum over keys [j0, j1) of p[m][j] v[j].
template <int MR, int VR>
inline void mix(const float* p, const float* alpha, const float* v, uint64_t dim, int j0, int j1, float* const* o,
                uint64_t at) {
  __m256 acc[MR][VR];
#pragma GCC unroll 3
  for (int m = 0; m < MR; m++) {
    const __m256 factor = _mm256_set1_ps(alpha[m]);
#pragma GCC unroll 4
    for (int i = 0; i < VR; i++) acc[m][i] = _mm256_mul_ps(_mm256_loadu_ps(o[m] + at + i * 8), factor);
  }
  for (int j = j0; j < j1; j++) {
    const float* row = v + static_cast<uint64_t>(j) * dim + at;
    __m256 weight[MR];
#pragma GCC unroll 3
    for (int m = 0; m < MR; m++) weight[m] = _mm256_broadcast_ss(p + m * page + j);
#pragma GCC unroll 4
    for (int i = 0; i < VR; i++) {
      const __m256 value = _mm256_loadu_ps(row + i * 8);
#pragma GCC unroll 3
      for (int m = 0; m < MR; m++) acc[m][i] = _mm256_fmadd_ps(weight[m], value, acc[m][i]);
    }
  }
#pragma GCC unroll 3
  for (int m = 0; m < MR; m++) {
#pragma GCC unroll 4
    for (int i = 0; i < VR; i++) _mm256_storeu_ps(o[m] + at + i * 8, acc[m][i]);
  }
}

template <int MR>
inline void mix_row(const float* p, const float* alpha, const float* v, uint64_t dim, int j0, int j1, float* const* o) {
  uint64_t at = 0;
  for (; at + 32 <= dim; at += 32) mix<MR, 4>(p, alpha, v, dim, j0, j1, o, at);
  if (at + 16 <= dim) {
    mix<MR, 2>(p, alpha, v, dim, j0, j1, o, at);
    at += 16;
  }
  if (at < dim) mix<MR, 1>(p, alpha, v, dim, j0, j1, o, at);
}

// Logits of one query to weights, in place; places outside of [low, high] get 0. Gives what o must be scaled by.
inline float weigh(float* s, int low, int high, float scale, float& most, float& sum) {
  const __m256 factor = _mm256_set1_ps(scale), hidden = _mm256_set1_ps(-INFINITY);
  const __m256i from = _mm256_set1_epi32(low - 1), to = _mm256_set1_epi32(high + 1);
  __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256 top = hidden;
  for (int j = 0; j < page; j += 8) {
    const __m256i seen = _mm256_and_si256(_mm256_cmpgt_epi32(place, from), _mm256_cmpgt_epi32(to, place));
    const __m256 logit =
        _mm256_blendv_ps(hidden, _mm256_mul_ps(_mm256_loadu_ps(s + j), factor), _mm256_castsi256_ps(seen));
    _mm256_storeu_ps(s + j, logit);
    top = _mm256_max_ps(top, logit);
    place = _mm256_add_epi32(place, _mm256_set1_epi32(8));
  }
  const float before = most;
  most = kl::larger(most, kl::max_lanes(top));
  const __m256 shift = _mm256_set1_ps(most);
  __m256 total = _mm256_setzero_ps();
  for (int j = 0; j < page; j += 8) {
    const __m256 weight = kl::exp8(_mm256_sub_ps(_mm256_loadu_ps(s + j), shift));
    _mm256_storeu_ps(s + j, weight);
    total = _mm256_add_ps(total, weight);
  }
  const float alpha = before == most ? 1.0f : kl::exp1(before - most);
  sum = sum * alpha + kl::sum_lanes(total);
  return alpha;
}

}  // namespace

void Tile::take(int64_t base, const float* k, const float* v) {
  alignas(64) float s[tile_queries * page];
  float alpha[tile_queries];
  // The places that any query sees.
  int low = page, high = -1;
  for (int i = 0; i < count; i++) {
    low = kl::smaller(low, static_cast<int>(kl::larger<int64_t>(0, first[i] - base)));
    high = kl::larger(high, static_cast<int>(kl::smaller<int64_t>(page - 1, last[i] - base)));
  }
  if (low > high) return;

  for (int i = 0; i < count; i += 3) {
    const int rows = kl::smaller(3, count - i);
    for (int j = low & ~3; j <= high; j += 4) {
      const float* key = k + static_cast<uint64_t>(j) * head_dim;
      float* to = s + i * page + j;
      if (rows == 3) score<3>(q + i, key, head_dim, to);
      if (rows == 2) score<2>(q + i, key, head_dim, to);
      if (rows == 1) score<1>(q + i, key, head_dim, to);
    }
  }
  for (int i = 0; i < count; i++) {
    const int from = static_cast<int>(kl::larger<int64_t>(0, kl::smaller<int64_t>(page, first[i] - base)));
    const int to = static_cast<int>(kl::larger<int64_t>(-1, kl::smaller<int64_t>(page - 1, last[i] - base)));
    if (from > to) {
      // Nothing of this page: weights 0, and the running softmax stays as it is.
      memset(s + i * page, 0, page * sizeof(float));
      alpha[i] = 1.0f;
    } else {
      alpha[i] = weigh(s + i * page, from, to, scale, most[i], sum[i]);
    }
  }
  for (int i = 0; i < count; i += 3) {
    const int rows = kl::smaller(3, count - i);
    const float* p = s + i * page;
    if (rows == 3) mix_row<3>(p, alpha + i, v, head_dim, low, high + 1, o + i);
    if (rows == 2) mix_row<2>(p, alpha + i, v, head_dim, low, high + 1, o + i);
    if (rows == 1) mix_row<1>(p, alpha + i, v, head_dim, low, high + 1, o + i);
  }
}

}  // namespace fa
