// Parameters of the device code, shared by host and device.
#pragma once
#include <stdint.h>

namespace kl {
struct NormParams {
  const int32_t* row_seq;
  const void* x;
  const uint16_t* weight;
  uint16_t* out;
  uint32_t hidden, stream_f32;
  float eps;
};
}  // namespace kl
