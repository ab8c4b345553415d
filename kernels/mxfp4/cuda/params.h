// Parameters of the device code, shared by host and device.
#pragma once
#include "cuda/grouped.h"

namespace kl {

// Up to 8 tokens: every block finds the chosen experts itself, straight from the router's ids.
struct DirectParams {
  const uint16_t* x;
  const int32_t* row_seq;
  const int32_t* ids;
  const float* weights;
  const uint8_t* up;
  const uint16_t* up_bias;
  const uint8_t* down;
  const uint16_t* down_bias;
  uint16_t* h;  // [tokens, top_k, intermediate], a tile's columns in the order in which lanes hold them
  void* out;
  uint32_t tokens, top_k, hidden, intermediate, expert_begin, expert_end;
  uint32_t stages, group, strips_per_block, accumulate, stream_f32, staged;
  float alpha, limit;
};

struct TilesParams {
  const uint8_t* blocks;
  const uint8_t* scales;
  uint8_t* dst;
  uint64_t tiles;
  uint32_t columns, tiles_per_row;
};

struct DequantizeParams {
  const uint8_t* blocks;
  const uint8_t* scales;
  uint16_t* dst;
  uint64_t groups;  // of 32 values
};

}  // namespace kl
