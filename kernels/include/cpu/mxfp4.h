// MXFP4 rows as weights of gemm.h: 16 bytes hold 32 E2M1 values (low nibble first), one E8M0 byte scales them.
//
// Two blocks (64 values) are decoded together, one per 128-bit lane. A byte shuffle looks up both bytes of each value as
// bf16, and widening leaves every second or fourth value of a block in one vector. Rows of A are laid out in that order
// (`position`), so nothing has to be shuffled back; K is padded to 64 with zeros.
#pragma once
#include "cpu/gemm.h"

namespace kl {

// Two blocks of a row as eight vectors of eight f32, in the order of Mxfp4Rows::position, already scaled.
struct Mxfp4Pair {
  __m256 value[8];

  inline Mxfp4Pair(const uint8_t* blocks, const uint8_t* scales, bool both) {
    __m256i bytes, scale_bytes;
    if (both) {
      uint16_t two;
      memcpy(&two, scales, 2);
      bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks));
      scale_bytes = _mm256_set1_epi16(static_cast<int16_t>(two));
    } else {
      bytes = _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks)));
      scale_bytes = _mm256_set1_epi16(scales[0]);
    }
    // 2^(s-127) is s in the exponent's place; 2^-127 itself is subnormal.
    const __m256i place = _mm256_setr_epi8(0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 1,
                                           -1, -1, -1, 1, -1, -1, -1, 1, -1, -1, -1);
    const __m256i exponent = _mm256_slli_epi32(_mm256_shuffle_epi8(scale_bytes, place), 23);
    const __m256 scale = _mm256_castsi256_ps(_mm256_max_epi32(exponent, _mm256_set1_epi32(0x00400000)));
    // 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives as bf16: high and low bytes.
    const __m256i high = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, static_cast<char>(0x80), static_cast<char>(0xbf),
        static_cast<char>(0xbf), static_cast<char>(0xbf), static_cast<char>(0xc0), static_cast<char>(0xc0),
        static_cast<char>(0xc0), static_cast<char>(0xc0)));
    const char h80 = static_cast<char>(0x80), hc0 = static_cast<char>(0xc0);
    const __m256i low = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, h80, hc0, 0, 0x40, h80, hc0, 0, 0, h80, hc0, 0, 0x40, h80, hc0));
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    decode(_mm256_and_si256(bytes, nibble), high, low, scale, value);
    decode(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble), high, low, scale, value + 4);
  }

 private:
  static inline void decode(__m256i code, __m256i high, __m256i low, __m256 scale, __m256* to) {
    const __m256i h = _mm256_shuffle_epi8(high, code);
    const __m256i l = _mm256_shuffle_epi8(low, code);
    const __m256i first = _mm256_unpacklo_epi8(l, h);
    const __m256i second = _mm256_unpackhi_epi8(l, h);
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    to[0] = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(first, 16)), scale);
    to[1] = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(first, upper)), scale);
    to[2] = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(second, 16)), scale);
    to[3] = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(second, upper)), scale);
  }
};

struct Mxfp4Rows {
  const uint8_t* blocks;
  const uint8_t* scales;
  int64_t k; // a multiple of 32

  static constexpr int direct_rows = 1; // one row of A is multiplied in registers, more through a panel
  static constexpr int64_t padded(int64_t k) { return (k + 63) / 64 * 64; }
  // Value i = 32 block + 16 half + 4 d + 2 pair + odd lies in vector 4 odd + 2 half + pair, lane 4 block + d.
  static constexpr int64_t position(int64_t i) {
    const int64_t vector = (i & 1) * 4 + ((i >> 4) & 1) * 2 + ((i >> 1) & 1);
    return (i & ~int64_t{63}) + vector * 8 + ((i >> 5) & 1) * 4 + ((i >> 2) & 3);
  }

  void widen(int64_t row, int64_t k0, int n, float* to) const {
    const uint8_t* from = blocks + row * (k / 2) + k0 / 2;
    const uint8_t* scale = scales + row * (k / 32) + k0 / 32;
    for (int i = 0; i < n; i += 64) {
      const Mxfp4Pair pair(from + i / 2, scale + i / 32, k0 + i + 32 < k);
#pragma GCC unroll 8
      for (int v = 0; v < 8; v++) _mm256_storeu_ps(to + i + v * 8, pair.value[v]);
    }
  }

  // One row of A with R weight rows.
  template <int R>
  void stream_rows(const float* a, int64_t row, float* c) const {
    const uint8_t* from[R];
    const uint8_t* scale[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      from[r] = blocks + (row + r) * (k / 2);
      scale[r] = scales + (row + r) * (k / 32);
    }
    for (int64_t k0 = 0; k0 < k; k0 += chunk_k) {
      const int64_t end = smaller<int64_t>(k0 + chunk_k, k);
      __m256 acc[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) acc[r] = _mm256_setzero_ps();
      for (int64_t i = k0; i < end; i += 64) {
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
          _mm_prefetch(from[r] + i / 2 + 1024, _MM_HINT_T0);
          const Mxfp4Pair pair(from[r] + i / 2, scale[r] + i / 32, i + 32 < k);
#pragma GCC unroll 8
          for (int v = 0; v < 8; v++) acc[r] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + v * 8), pair.value[v], acc[r]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        const float sum = sum_lanes(acc[r]);
        c[r * block_m] = k0 == 0 ? sum : c[r * block_m] + sum;
      }
    }
  }

  void direct(const float* const* a, int, int64_t n0, int64_t n1, float* c) const {
    int64_t n = n0;
    for (; n + 4 <= n1; n += 4) stream_rows<4>(a[0], n, c + (n - n0) * block_m);
    for (; n < n1; n++) stream_rows<1>(a[0], n, c + (n - n0) * block_m);
  }
};

}  // namespace kl
