// Linear layers: o_proj, o_proj_residual, lm_head.
#include "core.h"

namespace {

template <class Args>
kl_status check(const kl::Instance& instance, const Args& a) {
  if (a.dtype != KL_F32 || a.stream_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "o_proj: this variant has f32 activations and an f32 stream only.");
  }
  if (a.in_features == 0 || a.in_features % 8 != 0 || a.in_features > kl::max_width) {
    return instance.refuse(KL_INVALID, "o_proj: in_features must be a multiple of 8, from 8 to 1048576.");
  }
  if (a.out_features == 0 || a.out_features > kl::max_width) {
    return instance.refuse(KL_INVALID, "o_proj: out_features must be from 1 to 1048576.");
  }
  if (!kl::all_present(a.row_seq, a.x, a.weight)) return instance.refuse(KL_INVALID, "o_proj: a pointer is null.");
  return KL_OK;
}

template <class Args, class Put>
kl_status project(const kl::Instance& instance, const Args& a, const Put& put) {
  const float* x = static_cast<const float*>(a.x);
  const uint64_t k = a.in_features;
  return kl::linear(
      instance, a.tokens, {a.weight, static_cast<int64_t>(k)}, a.out_features,
      [&](uint64_t t) { return a.row_seq[t] < 0 ? nullptr : x + t * k; },
      [&](uint64_t t, int64_t n0, int64_t n1, const float* column) {
        for (int64_t n = n0; n < n1; n++) {
          const float bias = a.bias == nullptr ? 0.0f : kl::from_bf16(a.bias[n]);
          put(t * a.out_features + static_cast<uint64_t>(n), column[(n - n0) * kl::block_m] + bias);
        }
      });
}

}  // namespace

kl_status o_proj(const kl::Instance& instance, const kl_o_proj_args& a) {
  if (const kl_status status = check(instance, a); status != KL_OK) return status;
  if (a.out == nullptr) return instance.refuse(KL_INVALID, "o_proj: a pointer is null.");
  float* out = static_cast<float*>(a.out);
  return project(instance, a, [&](uint64_t at, float value) { out[at] = value; });
}

kl_status o_proj_residual(const kl::Instance& instance, const kl_o_proj_residual_args& a) {
  if (const kl_status status = check(instance, a); status != KL_OK) return status;
  if (a.stream == nullptr) return instance.refuse(KL_INVALID, "o_proj_residual: a pointer is null.");
  float* stream = static_cast<float*>(a.stream);
  return project(instance, a, [&](uint64_t at, float value) { stream[at] += value; });
}

kl_status lm_head(const kl::Instance& instance, const kl_lm_head_args& a) {
  if (a.dtype != KL_F32) return instance.refuse(KL_UNSUPPORTED, "lm_head: this variant has f32 activations only.");
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "lm_head: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (a.vocab == 0 || a.vocab > INT32_MAX) {
    return instance.refuse(KL_INVALID, "lm_head: vocab must be from 1 to 2147483647.");
  }
  if (!kl::all_present(a.sample_rows, a.x, a.weight, a.logits)) {
    return instance.refuse(KL_INVALID, "lm_head: a pointer is null.");
  }
  const float* x = static_cast<const float*>(a.x);
  return kl::linear(
      instance, a.rows, {a.weight, static_cast<int64_t>(a.hidden)}, a.vocab,
      [&](uint64_t r) {
        return a.sample_rows[r] < 0 ? nullptr : x + static_cast<uint64_t>(a.sample_rows[r]) * a.hidden;
      },
      [&](uint64_t r, int64_t n0, int64_t n1, const float* column) {
        for (int64_t n = n0; n < n1; n++) {
          a.logits[r * a.vocab + static_cast<uint64_t>(n)] = column[(n - n0) * kl::block_m];
        }
      });
}
