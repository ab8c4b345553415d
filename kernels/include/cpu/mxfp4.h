// MXFP4 rows as weights of gemm.h: 16 bytes hold 32 E2M1 values (low nibble first), one E8M0 byte scales them.
//
// Two blocks (64 values) are decoded together, one per 128-bit lane. A byte shuffle looks up both bytes of each value
// as bf16, and widening leaves every second or fourth value of a block in one vector. Rows of A are laid out in that order
// (`position`), so nothing has to be shuffled back; K is padded to 64 with zeros.
#pragma once
#include "cpu/gemm.h"

namespace kl {

// 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives as bf16: their high bytes, their low bytes.
alignas(16) constexpr uint8_t e2m1_high[16] = {0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                                               0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
alignas(16) constexpr uint8_t e2m1_low[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                                              0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};

inline __m256i both_lanes(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
}

// Two blocks of a row: their bytes, one block per lane, and their scales as f32.
struct Mxfp4Pair {
  __m256i bytes;
  __m256 scale;

  // `both`: there is a second block; else its place is 0.
  inline Mxfp4Pair(const uint8_t* blocks, bool both) {
    bytes = both ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks))
                 : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks)));
  }
  inline Mxfp4Pair(const uint8_t* blocks, const uint8_t* scales, bool both) : Mxfp4Pair(blocks, both) {
    uint16_t two = scales[0];
    if (both) memcpy(&two, scales, 2);
    const __m256i scale_bytes = _mm256_set1_epi16(static_cast<int16_t>(two));
    // 2^(s-127) is s in the exponent's place; 2^-127 itself is subnormal.
    const __m256i place = _mm256_setr_epi8(0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 1,
                                           -1, -1, -1, 1, -1, -1, -1, 1, -1, -1, -1);
    const __m256i exponent = _mm256_slli_epi32(_mm256_shuffle_epi8(scale_bytes, place), 23);
    scale = _mm256_castsi256_ps(_mm256_max_epi32(exponent, _mm256_set1_epi32(0x00400000)));
  }

  // Vectors 4 half .. 4 half + 3 in the order of Mxfp4Rows::position; half 0 is the low nibbles, 1 the high ones.
  template <int half>
  inline void values(__m256* to) const {
    const __m256i code =
        _mm256_and_si256(half == 0 ? bytes : _mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0x0f));
    const __m256i h = _mm256_shuffle_epi8(both_lanes(e2m1_high), code);
    const __m256i l = _mm256_shuffle_epi8(both_lanes(e2m1_low), code);
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
      __m256 value[8];
      pair.values<0>(value);
      pair.values<1>(value + 4);
#pragma GCC unroll 8
      for (int v = 0; v < 8; v++) _mm256_storeu_ps(to + i + v * 8, value[v]);
    }
  }

  template <int half>
  static inline void add_half(const Mxfp4Pair& pair, const float* a, __m256& acc) {
    __m256 value[4];
    pair.values<half>(value);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) acc = _mm256_fmadd_ps(_mm256_loadu_ps(a + v * 8), value[v], acc);
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
      // Half a pair of one row after the other: the sum of a row is a chain of dependent FMAs, and the CPU looks only
      // some sixty instructions ahead for others.
      const auto add = [&](int64_t i, bool both) {
        __m256 scales_of[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
          // The same place of the row that comes R rows later: rows are short, and each is a new stream to the CPU.
          _mm_prefetch(from[r] + i / 2 + R * (k / 2), _MM_HINT_T0);
          const Mxfp4Pair pair(from[r] + i / 2, scale[r] + i / 32, both);
          scales_of[r] = pair.scale;
          add_half<0>(pair, a + i, acc[r]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
          Mxfp4Pair pair(from[r] + i / 2, both);
          pair.scale = scales_of[r];
          add_half<1>(pair, a + i + 32, acc[r]);
        }
      };
      int64_t i = k0;
      for (; i + 64 <= end; i += 64) add(i, true);
      if (i < end) add(i, false);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        const float sum = sum_lanes(acc[r]);
        c[r * block_m] = k0 == 0 ? sum : c[r * block_m] + sum;
      }
    }
  }

  void direct(const float* const* a, int, int64_t n0, int64_t n1, float* c) const {
    int64_t n = n0;
    for (; n + 3 <= n1; n += 3) stream_rows<3>(a[0], n, c + (n - n0) * block_m);
    for (; n < n1; n++) stream_rows<1>(a[0], n, c + (n - n0) * block_m);
  }
};

}  // namespace kl
