// Writing layout mxfp4.tiles.
#pragma once
#include "cuda/device.cuh"
#include "params.h"

namespace kl {

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
    const uint32_t scale = block < p.columns / 32 ? p.scales[(strip * 8 + lane / 2) * (p.columns / 32) + block] : 127;
    to[256 + lane] = uint8_t(min(scale, 160u) + 94);
  }
}

}  // namespace kl
