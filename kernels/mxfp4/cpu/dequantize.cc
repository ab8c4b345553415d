// MXFP4 blocks to bf16 rows. E2M1 times a power of two has two significant bits, so cutting the f32 product to bf16
// loses nothing; what exceeds the exponent range becomes infinite.
#include "cpu/mxfp4.h"

#include "mxfp4_ops.h"

kl_status mxfp4_dequantize(const kl::Instance& instance, const kl_mxfp4_dequantize_args& a) {
  if (a.columns == 0 || a.columns % 32 != 0) {
    return instance.refuse(KL_INVALID, "mxfp4_dequantize: columns must be a multiple of 32.");
  }
  if (!kl::all_present(a.blocks, a.scales, a.dst)) {
    return instance.refuse(KL_INVALID, "mxfp4_dequantize: a pointer is null.");
  }
  constexpr uint64_t band = 16;
  if (kl::ceil_div(a.rows, band) > kl::max_tasks) {
    return instance.refuse(KL_INVALID, "mxfp4_dequantize: more rows than one launch can hold.");
  }
  const int64_t columns = a.columns;
  const kl::Mxfp4Rows weights{static_cast<const uint8_t*>(a.blocks), static_cast<const uint8_t*>(a.scales), columns};
  uint16_t* dst = static_cast<uint16_t*>(a.dst);
  instance.parallel(kl::ceil_div(a.rows, band), [&](uint32_t task, uint32_t) {
    for (uint64_t r = task * band; r < kl::smaller(a.rows, (task + 1) * band); r++) {
      const int64_t row = static_cast<int64_t>(r);
      for (int64_t k0 = 0; k0 < columns; k0 += 64) {
        alignas(64) uint32_t values[64];
        weights.widen(row, k0, 64, reinterpret_cast<float*>(values));
        uint16_t* to = dst + row * columns + k0;
        const int64_t n = kl::smaller<int64_t>(64, columns - k0);
        for (int64_t i = 0; i < n; i++) to[i] = static_cast<uint16_t>(values[kl::Mxfp4Rows::position(i)] >> 16);
      }
    }
  });
  return KL_OK;
}
