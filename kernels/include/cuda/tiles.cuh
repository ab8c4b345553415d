// Layout mxfp4.tiles: how a lane's codes become operands of the tensor cores.
#pragma once
#include "cuda/device.cuh"

namespace kl {

// E2M1 codes sit in the exponent and mantissa bits of a bf16: read as bf16 that is code * 2^-126, subnormal code included. One
// product with 2^(scale - 33) makes it code * 2^(scale - 127) * 2^-32, in range for every scale from 34 to 160; the accumulators
// are multiplied by 2^32 once, at the end. A tile holds scale + 94, the exponent field of that factor.
constexpr float tile_unit = 4294967296.0f;

__device__ __forceinline__ uint32_t scale_pair(uint32_t scale) {
  return scale * 0x00800080u;
}
__device__ __forceinline__ uint32_t times(uint32_t codes, uint32_t scale) {
  const bf16x2 v = __hmul2(*reinterpret_cast<const bf16x2*>(&codes), *reinterpret_cast<const bf16x2*>(&scale));
  return *reinterpret_cast<const uint32_t*>(&v);
}
// The four pairs of one word, scaled: columns {0, 1}, {8, 9} of one 16-column step, then of the next.
__device__ __forceinline__ void unpack(uint32_t word, uint32_t scale, uint32_t (&pairs)[4]) {
  pairs[0] = times(word & 0x81c081c0u, scale);
  pairs[1] = times(word << 3 & 0x81c081c0u, scale);
  pairs[2] = times(word << 6 & 0x81c081c0u, scale);
  pairs[3] = times((word << 1 & 0x80008000u) | (word >> 5 & 0x01000100u) | (word >> 4 & 0x00c000c0u), scale);
}
// A lane's 16 values of a tile: v[2 s], v[2 s + 1] are its low and high pair of step s.
__device__ __forceinline__ void unpack_tile(uint2 words, uint32_t scales, uint32_t (&v)[8]) {
  uint32_t a[4], b[4];
  unpack(words.x, scale_pair(scales & 255), a);
  unpack(words.y, scale_pair(scales >> 8), b);
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = a[i], v[4 + i] = b[i];
}

}  // namespace kl
