// How a matrix in global memory is described to the copies that fill shared memory; shared by host and device.
#pragma once
#include <stdint.h>

namespace kl {

// A kernel's parameter: a tensor map of the driver where the copy engine reads it (sm_90a), else a PlainMap.
struct alignas(64) TileMap {
  uint8_t bytes[128];
};

// Rows and planes of 16-byte pieces; a copy takes `box_y` rows of `box_z` planes, what lies outside of the sizes reads as zero.
struct PlainMap {
  const uint8_t* address;
  uint64_t stride_y, stride_z;      // bytes
  uint32_t pieces, size_y, size_z;  // of a row; rows; planes
  uint32_t box_y, box_z;
};
static_assert(sizeof(PlainMap) <= sizeof(TileMap));

}  // namespace kl
