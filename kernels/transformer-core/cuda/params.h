// Parameters of the device code, shared by host and device.
#pragma once
#include "cuda/tile_map.h"

namespace kl {

struct EmbedParams {
  const int32_t* row_seq;
  const int32_t* token_ids;
  const uint16_t* weight;
  void* out;
  uint32_t hidden, vocab, stream_f32;
};

// What one matrix-vector or matrix-matrix product does with its results.
struct Epilogue {
  const uint16_t* bias;  // may be null
  void* out;             // act, stream or logits [tokens, features]; q for qkv
  uint32_t features;     // columns of out
  uint32_t stream_f32;
  // qkv only
  const int32_t* positions;
  const int32_t* block_table;
  const float* inv_freq;
  uint16_t* kv;
  uint32_t heads, kv_heads, block_table_stride;
  float rope_scale;
};

struct GemvParams {
  const void* x;
  const uint16_t* weight;
  const uint16_t* norm_weight;  // not null: x is the stream and is normed first
  const int32_t* rows;          // row_seq, or the rows of x to read
  uint32_t x_f32, gather, tokens, depth, units, units_per_block, stages, row_stride;
  float eps;
  Epilogue epilogue;
};

struct GemmParams {
  TileMap a, b;         // activations (not for logits), weights
  const uint16_t* x;    // logits: rows of x are gathered
  const int32_t* rows;  // row_seq, or the rows of x to read
  uint32_t tokens, features, depth;
  Epilogue epilogue;
};

struct RouterParams {
  const void* x;
  const uint16_t* norm_weight;
  const uint16_t* weight;
  const uint16_t* bias;
  const int32_t* row_seq;
  uint16_t* normed;
  int32_t* ids;
  float* weights;
  uint32_t x_f32, tokens, hidden, experts, top_k;
  float eps;
};

struct ResidualParams {
  const int32_t* row_seq;
  const uint16_t* x;
  void* stream;
  uint32_t hidden, stream_f32;
};

struct SampleParams {
  const int32_t* sample_rows;
  const float* logits;
  const float* temperature;
  const float* top_p;
  const int32_t* top_k;
  const uint64_t* seeds;
  const uint64_t* counters;
  int32_t* token_ids;
  float* logprobs;
  int32_t* next_token_ids;
  float* partial;  // [rows, splits, 4]
  uint32_t* arrived;
  uint32_t vocab, splits;
};

struct CopyParams {
  const uint8_t* src;
  uint8_t* dst;
  uint64_t rows, row_bytes, src_stride, dst_stride;
};

struct TransposeParams {
  const uint16_t* src;
  uint16_t* dst;
  uint32_t rows, columns;
};

}  // namespace kl
