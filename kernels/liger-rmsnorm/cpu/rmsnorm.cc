// out = x * rsqrt(mean(x^2) + eps) * weight, all in f32: the weight is multiplied before any cast.
#include "cpu/library.h"
#include "cpu/simd.h"

namespace {

void normalise(const float* x, const uint16_t* weight, float* out, uint64_t hidden, float eps) {
  __m256 squares[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (uint64_t i = 0; i < hidden; i += 32) {
#pragma GCC unroll 4
    for (uint64_t j = 0; j < 4; j++) {
      const __m256 v = _mm256_loadu_ps(x + i + j * 8);
      squares[j] = _mm256_fmadd_ps(v, v, squares[j]);
    }
  }
  const float sum = kl::sum_lanes(
      _mm256_add_ps(_mm256_add_ps(squares[0], squares[1]), _mm256_add_ps(squares[2], squares[3])));
  const float mean = sum / static_cast<float>(hidden);
  const __m256 factor = _mm256_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps))));
  for (uint64_t i = 0; i < hidden; i += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), factor);
    _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, kl::load_bf16(weight + i)));
  }
}

}  // namespace

static kl_status rmsnorm(const kl::Instance& instance, const kl_rmsnorm_args& a) {
  if (a.dtype != KL_F32 || a.stream_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "rmsnorm: this variant has f32 activations and an f32 stream only.");
  }
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "rmsnorm: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (!kl::all_present(a.row_seq, a.x, a.weight, a.out)) {
    return instance.refuse(KL_INVALID, "rmsnorm: a pointer is null.");
  }
  const float* x = static_cast<const float*>(a.x);
  float* out = static_cast<float*>(a.out);
  constexpr uint64_t group = 16;
  instance.parallel(kl::ceil_div(a.tokens, group), [&](uint32_t task, uint32_t) {
    for (uint64_t t = task * group; t < kl::smaller<uint64_t>(a.tokens, (task + 1) * group); t++) {
      if (a.row_seq[t] < 0) continue;
      normalise(x + t * a.hidden, a.weight, out + t * a.hidden, a.hidden, a.eps);
    }
  });
  return KL_OK;
}

#define OPS(X) X(KL_OP_RMSNORM, rmsnorm, rmsnorm)
KL_DEFINE_LIBRARY(OPS)
