// The top_k largest of x W^T + b and the softmax over just those.
//
// Logits of 48 experts at a time are merged into the row's running list, which lives in the outputs themselves; so any
// number of experts takes no memory beside them.
#include "core.h"

namespace {

// Keeps ids[0, kept) and logits by falling logit; experts come by rising id, so an equal one goes behind.
void insert(int32_t* ids, float* logits, uint32_t& kept, uint32_t top_k, int32_t id, float logit) {
  if (kept == top_k && !(logit > logits[kept - 1])) return;
  uint32_t at = kept < top_k ? kept++ : kept - 1;
  for (; at > 0 && logit > logits[at - 1]; at--) {
    ids[at] = ids[at - 1];
    logits[at] = logits[at - 1];
  }
  ids[at] = id;
  logits[at] = logit;
}

// Logits by falling value to their softmax.
void softmax(float* values, uint32_t count) {
  const float most = values[0];
  float sum = 0.0f;
  for (uint32_t i = 0; i < count; i++) {
    values[i] = kl::exp1(values[i] - most);
    sum += values[i];
  }
  for (uint32_t i = 0; i < count; i++) values[i] /= sum;
}

}  // namespace

kl_status router(const kl::Instance& instance, const kl_router_args& a) {
  if (a.dtype != KL_F32) return instance.refuse(KL_UNSUPPORTED, "router: this variant has f32 activations only.");
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "router: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (a.experts == 0 || a.experts > kl::max_width) {
    return instance.refuse(KL_INVALID, "router: experts must be 1 to 1048576.");
  }
  if (a.top_k == 0 || a.top_k > a.experts) return instance.refuse(KL_INVALID, "router: top_k must be 1 to experts.");
  if (!kl::all_present(a.row_seq, a.x, a.weight, a.bias, a.expert_ids, a.expert_weights)) {
    return instance.refuse(KL_INVALID, "router: a pointer is null.");
  }
  constexpr uint64_t group = 32;
  const float* x = static_cast<const float*>(a.x);
  const kl::Bf16Rows weight{a.weight, static_cast<int64_t>(a.hidden)};
  const int64_t experts = a.experts;
  instance.parallel(kl::ceil_div(a.tokens, group), [&](uint32_t task, uint32_t) {
    const uint64_t first = task * group;
    const kl::Rows rows(first, kl::smaller<uint64_t>(a.tokens, first + group),
                        [&](uint64_t t) { return a.row_seq[t] < 0 ? nullptr : x + t * a.hidden; });
    if (rows.count == 0) return;
    uint32_t kept[group] = {};
    alignas(64) kl::BlockC c;
    for (int64_t n0 = 0; n0 < experts; n0 += kl::block_n) {
      const int64_t n1 = kl::smaller(n0 + kl::block_n, experts);
      kl::gemm_block(weight, rows.at, rows.count, n0, n1, c);
      for (int i = 0; i < rows.count; i++) {
        const uint64_t at = uint64_t{rows.who[i]} * a.top_k;
        for (int64_t n = n0; n < n1; n++) {
          insert(a.expert_ids + at, a.expert_weights + at, kept[i], a.top_k, static_cast<int32_t>(n),
                 c[(n - n0) * kl::block_m + i] + kl::from_bf16(a.bias[n]));
        }
      }
    }
    for (int i = 0; i < rows.count; i++) softmax(a.expert_weights + uint64_t{rows.who[i]} * a.top_k, a.top_k);
  });
  return KL_OK;
}
