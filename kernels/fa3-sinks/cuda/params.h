// Parameters of the device code, shared by host and device.
#pragma once
#include "cuda/tile_map.h"

namespace kl {
struct AttentionParams {
  const uint16_t* q;
  const uint16_t* kv;
  const int32_t* context;
  const int32_t* block_table;
  const int32_t* query_start;  // prefill only
  const uint16_t* sinks;
  uint16_t* out;
  float* partial;     // decode: [seqs, kv_heads, splits, 8, 66]: 64 sums, largest, total
  uint32_t* arrived;  // decode: [seqs, kv_heads]
  uint32_t tokens, seqs, heads, kv_heads, window, block_table_stride, splits;
  float scale;
};
struct PrefillParams {
  TileMap map;  // the cache as rows of 64
  AttentionParams attention;
};
}  // namespace kl
