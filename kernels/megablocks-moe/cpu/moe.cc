// moe and moe_residual on experts in bf16.rows.
#include "cpu/moe.h"

#include "megablocks.h"

namespace {

template <class Args>
kl_status run(const kl::Instance& instance, const Args& a, void* to, bool add) {
  if (a.layout != KL_LAYOUT_BF16_ROWS) {
    return instance.refuse(KL_UNSUPPORTED, "moe: this package takes experts in bf16.rows only.");
  }
  if (const kl_status status = kl::check_moe(instance, a); status != KL_OK) return status;
  if (to == nullptr) return instance.refuse(KL_INVALID, "moe: the output pointer is null.");
  const uint16_t* up = static_cast<const uint16_t*>(a.up_weight);
  const uint16_t* down = static_cast<const uint16_t*>(a.down_weight);
  const int64_t hidden = a.hidden, intermediate = a.intermediate;
  return kl::run_moe<kl::Bf16Rows>(
      instance, kl::moe_of(a, to, add),
      [&](int64_t e) { return kl::Bf16Rows{up + e * 2 * intermediate * hidden, hidden}; },
      [&](int64_t e) { return kl::Bf16Rows{down + e * hidden * intermediate, intermediate}; });
}

}  // namespace

kl_status moe(const kl::Instance& instance, const kl_moe_args& a) { return run(instance, a, a.out, false); }

kl_status moe_residual(const kl::Instance& instance, const kl_moe_residual_args& a) {
  return run(instance, a, a.stream, true);
}
