// Parameters of the grouped expert products, shared by host and device and by the packages that have them.
#pragma once
#include <stdint.h>

namespace kl {

struct alignas(64) GroupedMap {
  uint8_t bytes[128];
};

// Tokens sorted by expert: what the sort writes and all later passes read.
struct Sorted {
  int32_t* place;      // [tokens, top_k]: row in sorted order; -1: not here
  int32_t* source;     // [sorted row]: token
  int32_t* tiles;      // [tile, 3]: expert (local), first sorted row, rows
  int32_t* tile_count;
};

struct SortParams {
  Sorted sorted;
  const int32_t* row_seq;
  const int32_t* ids;
  uint32_t tokens, top_k, experts, expert_begin, expert_end, tile_tokens, most_tiles;
};

struct PermuteParams {
  Sorted sorted;
  const uint16_t* x;
  uint16_t* to;  // [sorted row, hidden]
  uint32_t pairs, top_k, hidden;
};

struct GroupedParams {
  GroupedMap weights, x;
  Sorted sorted;
  const uint16_t* bias;  // [local expert, rows]
  uint16_t* out;         // up: [sorted row, rows / 2]; down: [sorted row, rows]
  uint32_t rows, depth, row_tiles, strips;
  float alpha, limit;
};

struct CombineParams {
  Sorted sorted;
  const int32_t* row_seq;
  const float* weights;
  const uint16_t* y;  // [sorted row, hidden]
  void* out;
  uint32_t top_k, hidden, accumulate, stream_f32;
};

constexpr uint32_t grouped_rows = 192;  // weight rows of a block: three warpgroups of 64
// Three consuming warpgroups and one warp that feeds them, in a warpgroup of its own where registers are moved between them.
constexpr uint32_t grouped_threads(uint32_t width) { return 3 * 128 + (width >= 64 ? 128 : 32); }
constexpr uint32_t tile_bytes = 272;  // 8 rows by 64 columns of layout mxfp4.tiles

}  // namespace kl
