// dst[e, j, i] = src[e, i, j], by tiles that fit the first-level cache.
#include "megablocks.h"

#include <immintrin.h>

namespace {

constexpr uint64_t edge = 64;

// dst[j][i] = src[i][j] for an 8 x 8 square of 16-bit values.
void transpose8(const uint16_t* src, uint64_t src_stride, uint16_t* dst, uint64_t dst_stride) {
  __m128i r[8], s[8];
  for (uint64_t i = 0; i < 8; i++) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i * src_stride));
  for (int i = 0; i < 4; i++) {
    s[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
    s[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    r[4 * i] = _mm_unpacklo_epi32(s[4 * i], s[4 * i + 2]);
    r[4 * i + 1] = _mm_unpackhi_epi32(s[4 * i], s[4 * i + 2]);
    r[4 * i + 2] = _mm_unpacklo_epi32(s[4 * i + 1], s[4 * i + 3]);
    r[4 * i + 3] = _mm_unpackhi_epi32(s[4 * i + 1], s[4 * i + 3]);
  }
  for (uint64_t i = 0; i < 4; i++) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 2 * i * dst_stride), _mm_unpacklo_epi64(r[i], r[i + 4]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + (2 * i + 1) * dst_stride), _mm_unpackhi_epi64(r[i], r[i + 4]));
  }
}

}  // namespace

kl_status transpose_experts(const kl::Instance& instance, const kl_transpose_experts_args& a) {
  const uint64_t rows = a.rows, columns = a.columns;
  if (!kl::all_present(a.src, a.dst)) return instance.refuse(KL_INVALID, "transpose_experts: a pointer is null.");
  const uint64_t bands = kl::ceil_div(rows, edge);
  if (a.experts * bands > kl::max_tasks) {
    return instance.refuse(KL_INVALID, "transpose_experts: more work than one launch can hold.");
  }
  const uint16_t* src = static_cast<const uint16_t*>(a.src);
  uint16_t* dst = static_cast<uint16_t*>(a.dst);
  instance.parallel(a.experts * bands, [&](uint32_t task, uint32_t) {
    const uint64_t base = task / bands * rows * columns;
    const uint64_t i0 = task % bands * edge, i1 = kl::smaller(i0 + edge, rows);
    for (uint64_t j0 = 0; j0 < columns; j0 += edge) {
      const uint64_t j1 = kl::smaller(j0 + edge, columns);
      const uint64_t i8 = i0 + (i1 - i0) / 8 * 8, j8 = j0 + (j1 - j0) / 8 * 8;
      for (uint64_t j = j0; j < j8; j += 8) {
        for (uint64_t i = i0; i < i8; i += 8) {
          transpose8(src + base + i * columns + j, columns, dst + base + j * rows + i, rows);
        }
      }
      for (uint64_t j = j0; j < j1; j++) {
        for (uint64_t i = j < j8 ? i8 : i0; i < i1; i++) dst[base + j * rows + i] = src[base + i * columns + j];
      }
    }
  });
  return KL_OK;
}
