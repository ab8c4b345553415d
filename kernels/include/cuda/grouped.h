// Parameters of the grouped expert products, shared by host and device and by the packages that have them.
#pragma once
#include "cuda/tile_map.h"

namespace kl {

// Tokens sorted by expert: what the sort writes and all later passes read.
struct Sorted {
  int32_t* place;      // [tokens, top_k]: row in sorted order; -1: not here
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
  uint32_t top_k, hidden;
};

struct ArrangeParams {
  SortParams sort;
  const uint16_t* x;
  uint16_t* to;  // [sorted row, hidden]
  uint32_t hidden;
};
constexpr uint32_t arranging_threads = 384, arranged_pairs = 3 * arranging_threads;

struct GroupedParams {
  TileMap weights, x;
  Sorted sorted;
  const uint16_t* bias;  // [local expert, rows]
  uint16_t* out;         // up: [sorted row, rows / 2]; down: [sorted row, rows]
  uint32_t rows, depth, strips, experts;
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
// Blocks of a multiprocessor at once.
constexpr uint32_t grouped_blocks(bool mxfp4, uint32_t width) { return width == 16 || (width == 32 && !mxfp4) ? 2 : 1; }
constexpr uint32_t tile_bytes = 272;  // 8 rows by 64 columns of layout mxfp4.tiles

// A stage of the ring holds 64 columns of bf16 weights, or 128 of mxfp4.tiles, and as many of the tokens' rows.
constexpr uint32_t grouped_stage_bytes(bool mxfp4, uint32_t width) {
  const uint32_t bytes = mxfp4 ? width * 256 + grouped_rows / 8 * 2 * tile_bytes : (width + grouped_rows) * 128;
  return (bytes + 1023) / 1024 * 1024;
}
// As deep as pays on sm_90a (227 KiB a block); elsewhere as 99 KiB allow.
constexpr uint32_t grouped_stages(bool mxfp4, uint32_t width, bool sm90a) {
  if (sm90a) return mxfp4 ? (width == 16 ? 5 : width == 32 ? 8 : width == 64 ? 6 : 4) : (width <= 32 ? 3 : width == 64 ? 6 : 5);
  return width == 16 && mxfp4 ? 5 : 96 * 1024 / grouped_stage_bytes(mxfp4, width);
}
constexpr uint32_t grouped_shared_bytes(bool mxfp4, uint32_t width, bool sm90a) {
  return grouped_stages(mxfp4, width, sm90a) * grouped_stage_bytes(mxfp4, width) + 1024;  // tiles begin at multiples of 1,024 bytes
}

}  // namespace kl
