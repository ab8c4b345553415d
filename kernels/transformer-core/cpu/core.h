#pragma once
#include "cpu/gemm.h"

kl_status embed(const kl::Instance& instance, const kl_embed_args& a);
kl_status qkv_rope_kv(const kl::Instance& instance, const kl_qkv_rope_kv_args& a);
kl_status o_proj(const kl::Instance& instance, const kl_o_proj_args& a);
kl_status o_proj_residual(const kl::Instance& instance, const kl_o_proj_residual_args& a);
kl_status residual(const kl::Instance& instance, const kl_residual_args& a);
kl_status router(const kl::Instance& instance, const kl_router_args& a);
kl_status lm_head(const kl::Instance& instance, const kl_lm_head_args& a);
kl_status sample(const kl::Instance& instance, const kl_sample_args& a);
kl_status copy_rows(const kl::Instance& instance, const kl_copy_rows_args& a);

namespace kl {

// Rows [first, last) that are there, gathered: who[i] is the row, at[i] its values.
struct Rows {
  int count = 0;
  uint32_t who[block_m];
  const float* at[block_m];

  // address(t) gives the values of row t, or null where it is not there.
  template <class Address>
  Rows(uint64_t first, uint64_t last, const Address& address) {
    for (uint64_t t = first; t < last; t++) {
      const float* row = address(t);
      if (row == nullptr) continue;
      who[count] = static_cast<uint32_t>(t);
      at[count++] = row;
    }
  }
};

// x W^T for the rows that are there, in blocks: put(t, n0, n1, column) gets row t's products with weight rows [n0, n1),
// column[(n - n0) * block_m] each.
template <class Address, class Put>
kl_status linear(const Instance& instance, uint64_t rows, const Bf16Rows& weight, uint64_t out_features,
                 const Address& address, const Put& put) {
  const uint64_t n_blocks = ceil_div(out_features, block_n), m_blocks = ceil_div(rows, block_m);
  if (n_blocks * m_blocks > max_tasks) return instance.refuse(KL_INVALID, "More work than one launch can hold.");
  instance.parallel(n_blocks * m_blocks, [&](uint32_t task, uint32_t) {
    const uint64_t first = task / n_blocks * block_m;
    const Rows gathered(first, smaller(rows, first + block_m), address);
    if (gathered.count == 0) return;
    const int64_t n0 = static_cast<int64_t>(task % n_blocks) * block_n;
    const int64_t n1 = smaller(n0 + block_n, static_cast<int64_t>(out_features));
    alignas(64) BlockC c;
    gemm_block(weight, gathered.at, gathered.count, n0, n1, c);
    for (int i = 0; i < gathered.count; i++) put(gathered.who[i], n0, n1, c + i);
  });
  return KL_OK;
}

}  // namespace kl
