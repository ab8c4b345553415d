// Layout mxfp4.tiles: how a lane's codes become operands of the tensor cores, and how the layout is written.
#pragma once
#include "cuda/device.cuh"
#include "params.h"

namespace kl {

// E2M1 codes sit in the exponent and mantissa bits of a bf16: read as bf16 that is code * 2^-126, subnormal code included. One
// product with 2^(scale - 33) makes it code * 2^(scale - 127) * 2^-32, in range for every scale from 34 to 160; the accumulators
// are multiplied by 2^32 once, at the end.
constexpr float tile_unit = 4294967296.0f;

__device__ __forceinline__ uint32_t scale_pair(uint32_t scale) {
  const uint32_t bits = (min(scale, 160u) + 94u) << 7;
  return bits | bits << 16;
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

__device__ __forceinline__ uint32_t placed(uint32_t code, int pair) {
  const uint32_t sign = code >> 3 & 1, rest = code & 7;
  switch (pair) {
    case 0: return sign << 15 | rest << 6;
    case 1: return sign << 12 | rest << 3;
    case 2: return sign << 9 | rest;
    default: return sign << 14 | (rest >> 2) << 13 | (rest & 3) << 10;
  }
}

// One warp a tile.
__device__ __forceinline__ void write_tile(const TilesParams& p, uint64_t tile) {
  const uint32_t lane = threadIdx.x % 32, t = lane % 4;
  const uint64_t strip = tile / p.tiles_per_row;
  const uint32_t column = uint32_t(tile % p.tiles_per_row) * 64;
  const uint64_t row = strip * 8 + lane / 4;
  uint32_t words[2] = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const uint32_t c = column + 16 * (2 * h + pair / 2) + 2 * t + 8 * (pair % 2);
      if (c < p.columns) {
        const uint32_t byte = p.blocks[row * (p.columns / 2) + c / 2];
        words[h] |= placed(byte & 15, pair) | placed(byte >> 4, pair) << 16;
      }
    }
  }
  uint8_t* to = p.dst + tile * tile_bytes;
  *reinterpret_cast<uint2*>(to + lane * 8) = make_uint2(words[0], words[1]);
  if (lane < 16) {
    const uint32_t block = column / 32 + lane % 2;
    to[256 + lane] = block < p.columns / 32 ? p.scales[(strip * 8 + lane / 2) * (p.columns / 32) + block] : 127;
  }
}

}  // namespace kl
