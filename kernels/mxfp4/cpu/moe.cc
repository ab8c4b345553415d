// moe and moe_residual on experts in mxfp4.rows: blocks are decoded in registers or in a panel of a few rows.
#include "cpu/moe.h"
#include "cpu/mxfp4.h"

#include "mxfp4_ops.h"

namespace {

template <class Args>
kl_status run(const kl::Instance& instance, const Args& a, void* to, bool add) {
  if (a.layout != KL_LAYOUT_MXFP4_ROWS) {
    return instance.refuse(KL_UNSUPPORTED, "moe: this package takes experts in mxfp4.rows only.");
  }
  if (const kl_status status = kl::check_moe(instance, a); status != KL_OK) return status;
  if (to == nullptr || !kl::all_present(a.up_scales, a.down_scales)) {
    return instance.refuse(KL_INVALID, "moe: the output pointer or the scales are null.");
  }
  const uint8_t* up = static_cast<const uint8_t*>(a.up_weight);
  const uint8_t* down = static_cast<const uint8_t*>(a.down_weight);
  const int64_t hidden = a.hidden, intermediate = a.intermediate;
  const int64_t size = intermediate * hidden;
  return kl::run_moe<kl::Mxfp4Rows>(
      instance, kl::moe_of(a, to, add),
      [&](int64_t e) { return kl::Mxfp4Rows{up + e * size, a.up_scales + e * (size / 16), hidden}; },
      [&](int64_t e) { return kl::Mxfp4Rows{down + e * (size / 2), a.down_scales + e * (size / 32), intermediate}; });
}

}  // namespace

kl_status moe(const kl::Instance& instance, const kl_moe_args& a) { return run(instance, a, a.out, false); }

kl_status moe_residual(const kl::Instance& instance, const kl_moe_residual_args& a) {
  return run(instance, a, a.stream, true);
}
