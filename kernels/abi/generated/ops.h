/* Generated from ops.ts by `npm run generate`; do not edit. */
#ifndef KERNLOCK_OPS_H
#define KERNLOCK_OPS_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KL_STATIC_ASSERT(condition, text) static_assert(condition, text)
extern "C" {
#else
#define KL_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
KL_STATIC_ASSERT(sizeof(void*) == 8, "the ABI is for 64-bit machines");

/* Element types. */
enum {
  KL_F32 = 0,
  KL_BF16 = 1,
  KL_U8 = 2,
  KL_I32 = 3,
  KL_I64 = 4,
};

/* Weight layouts. */
enum {
  KL_LAYOUT_BF16_ROWS = 0,
  KL_LAYOUT_MXFP4_ROWS = 1,
  KL_LAYOUT_MXFP4_TILES = 2,
};

/* Semantic nodes of a model, in the order of a layer. */
enum {
  KL_NODE_EMBED = 0,
  KL_NODE_NORM = 1,
  KL_NODE_QKV = 2,
  KL_NODE_ROPE = 3,
  KL_NODE_KV_WRITE = 4,
  KL_NODE_ATTN = 5,
  KL_NODE_O_PROJ = 6,
  KL_NODE_RESIDUAL = 7,
  KL_NODE_ROUTER = 8,
  KL_NODE_MOE_UP = 9,
  KL_NODE_MOE_DOWN = 10,
  KL_NODE_LM_HEAD = 11,
  KL_NODE_SAMPLE = 12,
};

/* Op numbers. */
enum {
  KL_OP_EMBED = 0,
  KL_OP_RMSNORM = 1,
  KL_OP_QKV_ROPE_KV = 2,
  KL_OP_ATTN_PREFILL = 3,
  KL_OP_ATTN_DECODE = 4,
  KL_OP_O_PROJ = 5,
  KL_OP_O_PROJ_RESIDUAL = 6,
  KL_OP_RESIDUAL = 7,
  KL_OP_ROUTER = 8,
  KL_OP_MOE = 9,
  KL_OP_MOE_RESIDUAL = 10,
  KL_OP_LM_HEAD = 11,
  KL_OP_SAMPLE = 12,
  KL_OP_COPY_ROWS = 13,
  KL_OP_TRANSPOSE_EXPERTS = 14,
  KL_OP_MXFP4_DEQUANTIZE = 15,
  KL_OP_NORM_QKV_ROPE_KV = 16,
  KL_OP_NORM_ROUTER = 17,
  KL_OP_MXFP4_TILES = 18,
  KL_OP_COUNT = 19,
};

/* X(constant, name, arguments' struct) for every op, by number. */
#define KL_FOR_EACH_OP(X) \
  X(KL_OP_EMBED, embed, kl_embed_args) \
  X(KL_OP_RMSNORM, rmsnorm, kl_rmsnorm_args) \
  X(KL_OP_QKV_ROPE_KV, qkv_rope_kv, kl_qkv_rope_kv_args) \
  X(KL_OP_ATTN_PREFILL, attn_prefill, kl_attn_prefill_args) \
  X(KL_OP_ATTN_DECODE, attn_decode, kl_attn_decode_args) \
  X(KL_OP_O_PROJ, o_proj, kl_o_proj_args) \
  X(KL_OP_O_PROJ_RESIDUAL, o_proj_residual, kl_o_proj_residual_args) \
  X(KL_OP_RESIDUAL, residual, kl_residual_args) \
  X(KL_OP_ROUTER, router, kl_router_args) \
  X(KL_OP_MOE, moe, kl_moe_args) \
  X(KL_OP_MOE_RESIDUAL, moe_residual, kl_moe_residual_args) \
  X(KL_OP_LM_HEAD, lm_head, kl_lm_head_args) \
  X(KL_OP_SAMPLE, sample, kl_sample_args) \
  X(KL_OP_COPY_ROWS, copy_rows, kl_copy_rows_args) \
  X(KL_OP_TRANSPOSE_EXPERTS, transpose_experts, kl_transpose_experts_args) \
  X(KL_OP_MXFP4_DEQUANTIZE, mxfp4_dequantize, kl_mxfp4_dequantize_args) \
  X(KL_OP_NORM_QKV_ROPE_KV, norm_qkv_rope_kv, kl_norm_qkv_rope_kv_args) \
  X(KL_OP_NORM_ROUTER, norm_router, kl_norm_router_args) \
  X(KL_OP_MXFP4_TILES, mxfp4_tiles, kl_mxfp4_tiles_args)

/* embed (covers embed): out[t] = weight[token_ids[t]] */
typedef struct kl_embed_args {
  uint32_t size;
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t vocab; /* rows of the table */
  uint32_t reserved0;
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const int32_t* token_ids; /* i32[tokens] */
  const uint16_t* weight; /* bf16[vocab, hidden] */
  void* out; /* stream[tokens, hidden] */
} kl_embed_args;
KL_STATIC_ASSERT(sizeof(kl_embed_args) == 56, "size of kl_embed_args");
KL_STATIC_ASSERT(offsetof(kl_embed_args, size) == 0, "offset of kl_embed_args.size");
KL_STATIC_ASSERT(offsetof(kl_embed_args, stream_dtype) == 4, "offset of kl_embed_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_embed_args, tokens) == 8, "offset of kl_embed_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_embed_args, hidden) == 12, "offset of kl_embed_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_embed_args, vocab) == 16, "offset of kl_embed_args.vocab");
KL_STATIC_ASSERT(offsetof(kl_embed_args, reserved0) == 20, "offset of kl_embed_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_embed_args, row_seq) == 24, "offset of kl_embed_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_embed_args, token_ids) == 32, "offset of kl_embed_args.token_ids");
KL_STATIC_ASSERT(offsetof(kl_embed_args, weight) == 40, "offset of kl_embed_args.weight");
KL_STATIC_ASSERT(offsetof(kl_embed_args, out) == 48, "offset of kl_embed_args.out");

/* rmsnorm (covers norm): out = x * rsqrt(mean(x^2) + eps) * weight, in f32, cast last */
typedef struct kl_rmsnorm_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  float eps; /* added to the mean square */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* stream[tokens, hidden] */
  const uint16_t* weight; /* bf16[hidden] */
  void* out; /* act[tokens, hidden] */
} kl_rmsnorm_args;
KL_STATIC_ASSERT(sizeof(kl_rmsnorm_args) == 56, "size of kl_rmsnorm_args");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, size) == 0, "offset of kl_rmsnorm_args.size");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, dtype) == 4, "offset of kl_rmsnorm_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, stream_dtype) == 8, "offset of kl_rmsnorm_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, tokens) == 12, "offset of kl_rmsnorm_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, hidden) == 16, "offset of kl_rmsnorm_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, eps) == 20, "offset of kl_rmsnorm_args.eps");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, row_seq) == 24, "offset of kl_rmsnorm_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, x) == 32, "offset of kl_rmsnorm_args.x");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, weight) == 40, "offset of kl_rmsnorm_args.weight");
KL_STATIC_ASSERT(offsetof(kl_rmsnorm_args, out) == 48, "offset of kl_rmsnorm_args.out");

/* qkv_rope_kv (covers qkv, rope, kv_write): q, k, v = x W^T + b; q and k rotated (half-split RoPE); k and v written to the paged cache */
typedef struct kl_qkv_rope_kv_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t kv_dtype; /* dtype of the KV cache */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t heads; /* query heads */
  uint32_t kv_heads; /* key and value heads */
  uint32_t head_dim; /* width of a head */
  float rope_scale; /* factor on both cosine and sine (YaRN: 0.1 ln(factor) + 1) */
  uint32_t block_table_stride; /* entries per row of block_table */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const int32_t* positions; /* i32[tokens] */
  const int32_t* block_table; /* i32[seqs, block_table_stride]; page of each 64 positions, by absolute position; -1: freed */
  const void* x; /* act[tokens, hidden] */
  const uint16_t* weight; /* bf16[(heads + 2 * kv_heads) * head_dim, hidden]; rows of q, then k, then v */
  const uint16_t* bias; /* bf16[(heads + 2 * kv_heads) * head_dim] */
  const float* inv_freq; /* f32[head_dim / 2] */
  void* q; /* act[tokens, heads, head_dim] */
  void* kv; /* kv[page, 2, kv_heads, 64, head_dim]; this layer's pages (layout paged64.hnd) */
} kl_qkv_rope_kv_args;
KL_STATIC_ASSERT(sizeof(kl_qkv_rope_kv_args) == 112, "size of kl_qkv_rope_kv_args");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, size) == 0, "offset of kl_qkv_rope_kv_args.size");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, dtype) == 4, "offset of kl_qkv_rope_kv_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, kv_dtype) == 8, "offset of kl_qkv_rope_kv_args.kv_dtype");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, tokens) == 12, "offset of kl_qkv_rope_kv_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, hidden) == 16, "offset of kl_qkv_rope_kv_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, heads) == 20, "offset of kl_qkv_rope_kv_args.heads");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, kv_heads) == 24, "offset of kl_qkv_rope_kv_args.kv_heads");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, head_dim) == 28, "offset of kl_qkv_rope_kv_args.head_dim");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, rope_scale) == 32, "offset of kl_qkv_rope_kv_args.rope_scale");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, block_table_stride) == 36, "offset of kl_qkv_rope_kv_args.block_table_stride");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, row_seq) == 40, "offset of kl_qkv_rope_kv_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, positions) == 48, "offset of kl_qkv_rope_kv_args.positions");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, block_table) == 56, "offset of kl_qkv_rope_kv_args.block_table");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, x) == 64, "offset of kl_qkv_rope_kv_args.x");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, weight) == 72, "offset of kl_qkv_rope_kv_args.weight");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, bias) == 80, "offset of kl_qkv_rope_kv_args.bias");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, inv_freq) == 88, "offset of kl_qkv_rope_kv_args.inv_freq");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, q) == 96, "offset of kl_qkv_rope_kv_args.q");
KL_STATIC_ASSERT(offsetof(kl_qkv_rope_kv_args, kv) == 104, "offset of kl_qkv_rope_kv_args.kv");

/* attn_prefill (covers attn): causal attention with sinks for sequences of any number of query rows */
typedef struct kl_attn_prefill_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t kv_dtype; /* dtype of the KV cache */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t seqs; /* bucket: sequences of this launch */
  uint32_t max_context; /* bucket: no context of this launch is longer */
  uint32_t heads; /* query heads; query head h reads kv head floor(h / (heads / kv_heads)) */
  uint32_t kv_heads; /* key and value heads */
  uint32_t head_dim; /* width of a head */
  uint32_t window; /* keys a query may see, itself included; 0 for all */
  float scale; /* factor on q.k, 1/sqrt(head_dim) */
  uint32_t block_table_stride; /* entries per row of block_table */
  const int32_t* context; /* i32[seqs]; keys of each sequence, those of this step included; 0: no such sequence */
  const int32_t* block_table; /* i32[seqs, block_table_stride]; page of each 64 positions, by absolute position; -1: freed */
  const void* q; /* act[tokens, heads, head_dim]; already rotated */
  const void* kv; /* kv[page, 2, kv_heads, 64, head_dim]; this layer's pages (layout paged64.hnd), this step's keys included */
  const uint16_t* sinks; /* bf16[heads]; one raw logit per head that takes probability and has no value */
  void* out; /* act[tokens, heads, head_dim] */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
  const int32_t* query_start; /* i32[seqs + 1]; first row of each sequence; its rows are the last ones of its context */
} kl_attn_prefill_args;
KL_STATIC_ASSERT(sizeof(kl_attn_prefill_args) == 136, "size of kl_attn_prefill_args");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, size) == 0, "offset of kl_attn_prefill_args.size");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, dtype) == 4, "offset of kl_attn_prefill_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, kv_dtype) == 8, "offset of kl_attn_prefill_args.kv_dtype");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, tokens) == 12, "offset of kl_attn_prefill_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, seqs) == 16, "offset of kl_attn_prefill_args.seqs");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, max_context) == 20, "offset of kl_attn_prefill_args.max_context");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, heads) == 24, "offset of kl_attn_prefill_args.heads");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, kv_heads) == 28, "offset of kl_attn_prefill_args.kv_heads");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, head_dim) == 32, "offset of kl_attn_prefill_args.head_dim");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, window) == 36, "offset of kl_attn_prefill_args.window");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, scale) == 40, "offset of kl_attn_prefill_args.scale");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, block_table_stride) == 44, "offset of kl_attn_prefill_args.block_table_stride");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, context) == 48, "offset of kl_attn_prefill_args.context");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, block_table) == 56, "offset of kl_attn_prefill_args.block_table");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, q) == 64, "offset of kl_attn_prefill_args.q");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, kv) == 72, "offset of kl_attn_prefill_args.kv");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, sinks) == 80, "offset of kl_attn_prefill_args.sinks");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, out) == 88, "offset of kl_attn_prefill_args.out");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, scratch) == 96, "offset of kl_attn_prefill_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, scratch_bytes) == 104, "offset of kl_attn_prefill_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, state) == 112, "offset of kl_attn_prefill_args.state");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, state_bytes) == 120, "offset of kl_attn_prefill_args.state_bytes");
KL_STATIC_ASSERT(offsetof(kl_attn_prefill_args, query_start) == 128, "offset of kl_attn_prefill_args.query_start");

/* attn_decode (covers attn): causal attention with sinks, one query row per sequence: row i belongs to sequence i */
typedef struct kl_attn_decode_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t kv_dtype; /* dtype of the KV cache */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t seqs; /* bucket: sequences of this launch */
  uint32_t max_context; /* bucket: no context of this launch is longer */
  uint32_t heads; /* query heads; query head h reads kv head floor(h / (heads / kv_heads)) */
  uint32_t kv_heads; /* key and value heads */
  uint32_t head_dim; /* width of a head */
  uint32_t window; /* keys a query may see, itself included; 0 for all */
  float scale; /* factor on q.k, 1/sqrt(head_dim) */
  uint32_t block_table_stride; /* entries per row of block_table */
  const int32_t* context; /* i32[seqs]; keys of each sequence, those of this step included; 0: no such sequence */
  const int32_t* block_table; /* i32[seqs, block_table_stride]; page of each 64 positions, by absolute position; -1: freed */
  const void* q; /* act[tokens, heads, head_dim]; already rotated */
  const void* kv; /* kv[page, 2, kv_heads, 64, head_dim]; this layer's pages (layout paged64.hnd), this step's keys included */
  const uint16_t* sinks; /* bf16[heads]; one raw logit per head that takes probability and has no value */
  void* out; /* act[tokens, heads, head_dim] */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
} kl_attn_decode_args;
KL_STATIC_ASSERT(sizeof(kl_attn_decode_args) == 128, "size of kl_attn_decode_args");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, size) == 0, "offset of kl_attn_decode_args.size");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, dtype) == 4, "offset of kl_attn_decode_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, kv_dtype) == 8, "offset of kl_attn_decode_args.kv_dtype");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, tokens) == 12, "offset of kl_attn_decode_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, seqs) == 16, "offset of kl_attn_decode_args.seqs");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, max_context) == 20, "offset of kl_attn_decode_args.max_context");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, heads) == 24, "offset of kl_attn_decode_args.heads");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, kv_heads) == 28, "offset of kl_attn_decode_args.kv_heads");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, head_dim) == 32, "offset of kl_attn_decode_args.head_dim");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, window) == 36, "offset of kl_attn_decode_args.window");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, scale) == 40, "offset of kl_attn_decode_args.scale");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, block_table_stride) == 44, "offset of kl_attn_decode_args.block_table_stride");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, context) == 48, "offset of kl_attn_decode_args.context");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, block_table) == 56, "offset of kl_attn_decode_args.block_table");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, q) == 64, "offset of kl_attn_decode_args.q");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, kv) == 72, "offset of kl_attn_decode_args.kv");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, sinks) == 80, "offset of kl_attn_decode_args.sinks");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, out) == 88, "offset of kl_attn_decode_args.out");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, scratch) == 96, "offset of kl_attn_decode_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, scratch_bytes) == 104, "offset of kl_attn_decode_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, state) == 112, "offset of kl_attn_decode_args.state");
KL_STATIC_ASSERT(offsetof(kl_attn_decode_args, state_bytes) == 120, "offset of kl_attn_decode_args.state_bytes");

/* o_proj (covers o_proj): out = x W^T + b */
typedef struct kl_o_proj_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t in_features; /* columns of the weight */
  uint32_t out_features; /* rows of the weight */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, in_features] */
  const uint16_t* weight; /* bf16[out_features, in_features] */
  const uint16_t* bias; /* bf16[out_features]; or null */
  void* out; /* act[tokens, out_features] */
} kl_o_proj_args;
KL_STATIC_ASSERT(sizeof(kl_o_proj_args) == 64, "size of kl_o_proj_args");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, size) == 0, "offset of kl_o_proj_args.size");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, dtype) == 4, "offset of kl_o_proj_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, stream_dtype) == 8, "offset of kl_o_proj_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, tokens) == 12, "offset of kl_o_proj_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, in_features) == 16, "offset of kl_o_proj_args.in_features");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, out_features) == 20, "offset of kl_o_proj_args.out_features");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, row_seq) == 24, "offset of kl_o_proj_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, x) == 32, "offset of kl_o_proj_args.x");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, weight) == 40, "offset of kl_o_proj_args.weight");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, bias) == 48, "offset of kl_o_proj_args.bias");
KL_STATIC_ASSERT(offsetof(kl_o_proj_args, out) == 56, "offset of kl_o_proj_args.out");

/* o_proj_residual (covers o_proj, residual): stream += x W^T + b */
typedef struct kl_o_proj_residual_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t in_features; /* columns of the weight */
  uint32_t out_features; /* rows of the weight */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, in_features] */
  const uint16_t* weight; /* bf16[out_features, in_features] */
  const uint16_t* bias; /* bf16[out_features]; or null */
  void* stream; /* stream[tokens, out_features] */
} kl_o_proj_residual_args;
KL_STATIC_ASSERT(sizeof(kl_o_proj_residual_args) == 64, "size of kl_o_proj_residual_args");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, size) == 0, "offset of kl_o_proj_residual_args.size");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, dtype) == 4, "offset of kl_o_proj_residual_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, stream_dtype) == 8, "offset of kl_o_proj_residual_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, tokens) == 12, "offset of kl_o_proj_residual_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, in_features) == 16, "offset of kl_o_proj_residual_args.in_features");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, out_features) == 20, "offset of kl_o_proj_residual_args.out_features");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, row_seq) == 24, "offset of kl_o_proj_residual_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, x) == 32, "offset of kl_o_proj_residual_args.x");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, weight) == 40, "offset of kl_o_proj_residual_args.weight");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, bias) == 48, "offset of kl_o_proj_residual_args.bias");
KL_STATIC_ASSERT(offsetof(kl_o_proj_residual_args, stream) == 56, "offset of kl_o_proj_residual_args.stream");

/* residual (covers residual): stream += x */
typedef struct kl_residual_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t reserved0;
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, hidden] */
  void* stream; /* stream[tokens, hidden] */
} kl_residual_args;
KL_STATIC_ASSERT(sizeof(kl_residual_args) == 48, "size of kl_residual_args");
KL_STATIC_ASSERT(offsetof(kl_residual_args, size) == 0, "offset of kl_residual_args.size");
KL_STATIC_ASSERT(offsetof(kl_residual_args, dtype) == 4, "offset of kl_residual_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_residual_args, stream_dtype) == 8, "offset of kl_residual_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_residual_args, tokens) == 12, "offset of kl_residual_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_residual_args, hidden) == 16, "offset of kl_residual_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_residual_args, reserved0) == 20, "offset of kl_residual_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_residual_args, row_seq) == 24, "offset of kl_residual_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_residual_args, x) == 32, "offset of kl_residual_args.x");
KL_STATIC_ASSERT(offsetof(kl_residual_args, stream) == 40, "offset of kl_residual_args.stream");

/* router (covers router): the top_k largest of x W^T + b (lowest id first on ties) and the softmax over just those */
typedef struct kl_router_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t experts; /* rows of the weight */
  uint32_t top_k; /* experts chosen per token */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, hidden] */
  const uint16_t* weight; /* bf16[experts, hidden] */
  const uint16_t* bias; /* bf16[experts] */
  int32_t* expert_ids; /* i32[tokens, top_k]; by falling logit */
  float* expert_weights; /* f32[tokens, top_k] */
} kl_router_args;
KL_STATIC_ASSERT(sizeof(kl_router_args) == 72, "size of kl_router_args");
KL_STATIC_ASSERT(offsetof(kl_router_args, size) == 0, "offset of kl_router_args.size");
KL_STATIC_ASSERT(offsetof(kl_router_args, dtype) == 4, "offset of kl_router_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_router_args, tokens) == 8, "offset of kl_router_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_router_args, hidden) == 12, "offset of kl_router_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_router_args, experts) == 16, "offset of kl_router_args.experts");
KL_STATIC_ASSERT(offsetof(kl_router_args, top_k) == 20, "offset of kl_router_args.top_k");
KL_STATIC_ASSERT(offsetof(kl_router_args, row_seq) == 24, "offset of kl_router_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_router_args, x) == 32, "offset of kl_router_args.x");
KL_STATIC_ASSERT(offsetof(kl_router_args, weight) == 40, "offset of kl_router_args.weight");
KL_STATIC_ASSERT(offsetof(kl_router_args, bias) == 48, "offset of kl_router_args.bias");
KL_STATIC_ASSERT(offsetof(kl_router_args, expert_ids) == 56, "offset of kl_router_args.expert_ids");
KL_STATIC_ASSERT(offsetof(kl_router_args, expert_weights) == 64, "offset of kl_router_args.expert_weights");

/* moe (covers moe_up, moe_down): out = sum over chosen experts of weight * (down(swiglu(up(x)))) */
typedef struct kl_moe_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t intermediate; /* width of an expert's hidden layer */
  uint32_t experts; /* experts of the layer; ids run over all of them */
  uint32_t top_k; /* experts chosen per token */
  uint32_t expert_begin; /* first expert held here; pairs outside the range add nothing */
  uint32_t expert_end; /* one past the last expert held here */
  uint32_t partial; /* 1: biases and outputs of absent experts are left to other ranks, the result is a partial sum */
  uint32_t layout; /* weight layout of up_weight and down_weight */
  float alpha; /* SwiGLU: gate * sigmoid(alpha * gate) * (up + 1) */
  float limit; /* SwiGLU: gate is clamped from above, up from both sides */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, hidden] */
  const int32_t* expert_ids; /* i32[tokens, top_k] */
  const float* expert_weights; /* f32[tokens, top_k] */
  const void* up_weight; /* layout[expert_end - expert_begin, 2 * intermediate, hidden]; gate rows are even, up rows odd */
  const uint8_t* up_scales; /* u8[expert_end - expert_begin, 2 * intermediate, hidden / 32]; or null; E8M0; MXFP4 layouts only */
  const uint16_t* up_bias; /* bf16[expert_end - expert_begin, 2 * intermediate] */
  const void* down_weight; /* layout[expert_end - expert_begin, hidden, intermediate] */
  const uint8_t* down_scales; /* u8[expert_end - expert_begin, hidden, intermediate / 32]; or null; E8M0; MXFP4 layouts only */
  const uint16_t* down_bias; /* bf16[expert_end - expert_begin, hidden] */
  void* out; /* act[tokens, hidden] */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
} kl_moe_args;
KL_STATIC_ASSERT(sizeof(kl_moe_args) == 176, "size of kl_moe_args");
KL_STATIC_ASSERT(offsetof(kl_moe_args, size) == 0, "offset of kl_moe_args.size");
KL_STATIC_ASSERT(offsetof(kl_moe_args, dtype) == 4, "offset of kl_moe_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_moe_args, stream_dtype) == 8, "offset of kl_moe_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_moe_args, tokens) == 12, "offset of kl_moe_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_moe_args, hidden) == 16, "offset of kl_moe_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_moe_args, intermediate) == 20, "offset of kl_moe_args.intermediate");
KL_STATIC_ASSERT(offsetof(kl_moe_args, experts) == 24, "offset of kl_moe_args.experts");
KL_STATIC_ASSERT(offsetof(kl_moe_args, top_k) == 28, "offset of kl_moe_args.top_k");
KL_STATIC_ASSERT(offsetof(kl_moe_args, expert_begin) == 32, "offset of kl_moe_args.expert_begin");
KL_STATIC_ASSERT(offsetof(kl_moe_args, expert_end) == 36, "offset of kl_moe_args.expert_end");
KL_STATIC_ASSERT(offsetof(kl_moe_args, partial) == 40, "offset of kl_moe_args.partial");
KL_STATIC_ASSERT(offsetof(kl_moe_args, layout) == 44, "offset of kl_moe_args.layout");
KL_STATIC_ASSERT(offsetof(kl_moe_args, alpha) == 48, "offset of kl_moe_args.alpha");
KL_STATIC_ASSERT(offsetof(kl_moe_args, limit) == 52, "offset of kl_moe_args.limit");
KL_STATIC_ASSERT(offsetof(kl_moe_args, row_seq) == 56, "offset of kl_moe_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_moe_args, x) == 64, "offset of kl_moe_args.x");
KL_STATIC_ASSERT(offsetof(kl_moe_args, expert_ids) == 72, "offset of kl_moe_args.expert_ids");
KL_STATIC_ASSERT(offsetof(kl_moe_args, expert_weights) == 80, "offset of kl_moe_args.expert_weights");
KL_STATIC_ASSERT(offsetof(kl_moe_args, up_weight) == 88, "offset of kl_moe_args.up_weight");
KL_STATIC_ASSERT(offsetof(kl_moe_args, up_scales) == 96, "offset of kl_moe_args.up_scales");
KL_STATIC_ASSERT(offsetof(kl_moe_args, up_bias) == 104, "offset of kl_moe_args.up_bias");
KL_STATIC_ASSERT(offsetof(kl_moe_args, down_weight) == 112, "offset of kl_moe_args.down_weight");
KL_STATIC_ASSERT(offsetof(kl_moe_args, down_scales) == 120, "offset of kl_moe_args.down_scales");
KL_STATIC_ASSERT(offsetof(kl_moe_args, down_bias) == 128, "offset of kl_moe_args.down_bias");
KL_STATIC_ASSERT(offsetof(kl_moe_args, out) == 136, "offset of kl_moe_args.out");
KL_STATIC_ASSERT(offsetof(kl_moe_args, scratch) == 144, "offset of kl_moe_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_moe_args, scratch_bytes) == 152, "offset of kl_moe_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_moe_args, state) == 160, "offset of kl_moe_args.state");
KL_STATIC_ASSERT(offsetof(kl_moe_args, state_bytes) == 168, "offset of kl_moe_args.state_bytes");

/* moe_residual (covers moe_up, moe_down, residual): stream += sum over chosen experts of weight * (down(swiglu(up(x)))) */
typedef struct kl_moe_residual_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t intermediate; /* width of an expert's hidden layer */
  uint32_t experts; /* experts of the layer; ids run over all of them */
  uint32_t top_k; /* experts chosen per token */
  uint32_t expert_begin; /* first expert held here; pairs outside the range add nothing */
  uint32_t expert_end; /* one past the last expert held here */
  uint32_t partial; /* 1: biases and outputs of absent experts are left to other ranks, the result is a partial sum */
  uint32_t layout; /* weight layout of up_weight and down_weight */
  float alpha; /* SwiGLU: gate * sigmoid(alpha * gate) * (up + 1) */
  float limit; /* SwiGLU: gate is clamped from above, up from both sides */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* act[tokens, hidden] */
  const int32_t* expert_ids; /* i32[tokens, top_k] */
  const float* expert_weights; /* f32[tokens, top_k] */
  const void* up_weight; /* layout[expert_end - expert_begin, 2 * intermediate, hidden]; gate rows are even, up rows odd */
  const uint8_t* up_scales; /* u8[expert_end - expert_begin, 2 * intermediate, hidden / 32]; or null; E8M0; MXFP4 layouts only */
  const uint16_t* up_bias; /* bf16[expert_end - expert_begin, 2 * intermediate] */
  const void* down_weight; /* layout[expert_end - expert_begin, hidden, intermediate] */
  const uint8_t* down_scales; /* u8[expert_end - expert_begin, hidden, intermediate / 32]; or null; E8M0; MXFP4 layouts only */
  const uint16_t* down_bias; /* bf16[expert_end - expert_begin, hidden] */
  void* stream; /* stream[tokens, hidden] */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
} kl_moe_residual_args;
KL_STATIC_ASSERT(sizeof(kl_moe_residual_args) == 176, "size of kl_moe_residual_args");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, size) == 0, "offset of kl_moe_residual_args.size");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, dtype) == 4, "offset of kl_moe_residual_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, stream_dtype) == 8, "offset of kl_moe_residual_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, tokens) == 12, "offset of kl_moe_residual_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, hidden) == 16, "offset of kl_moe_residual_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, intermediate) == 20, "offset of kl_moe_residual_args.intermediate");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, experts) == 24, "offset of kl_moe_residual_args.experts");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, top_k) == 28, "offset of kl_moe_residual_args.top_k");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, expert_begin) == 32, "offset of kl_moe_residual_args.expert_begin");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, expert_end) == 36, "offset of kl_moe_residual_args.expert_end");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, partial) == 40, "offset of kl_moe_residual_args.partial");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, layout) == 44, "offset of kl_moe_residual_args.layout");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, alpha) == 48, "offset of kl_moe_residual_args.alpha");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, limit) == 52, "offset of kl_moe_residual_args.limit");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, row_seq) == 56, "offset of kl_moe_residual_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, x) == 64, "offset of kl_moe_residual_args.x");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, expert_ids) == 72, "offset of kl_moe_residual_args.expert_ids");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, expert_weights) == 80, "offset of kl_moe_residual_args.expert_weights");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, up_weight) == 88, "offset of kl_moe_residual_args.up_weight");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, up_scales) == 96, "offset of kl_moe_residual_args.up_scales");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, up_bias) == 104, "offset of kl_moe_residual_args.up_bias");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, down_weight) == 112, "offset of kl_moe_residual_args.down_weight");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, down_scales) == 120, "offset of kl_moe_residual_args.down_scales");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, down_bias) == 128, "offset of kl_moe_residual_args.down_bias");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, stream) == 136, "offset of kl_moe_residual_args.stream");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, scratch) == 144, "offset of kl_moe_residual_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, scratch_bytes) == 152, "offset of kl_moe_residual_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, state) == 160, "offset of kl_moe_residual_args.state");
KL_STATIC_ASSERT(offsetof(kl_moe_residual_args, state_bytes) == 168, "offset of kl_moe_residual_args.state_bytes");

/* lm_head (covers lm_head): logits[r] = weight x[sample_rows[r]] */
typedef struct kl_lm_head_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t rows; /* bucket: rows that sample */
  uint32_t hidden; /* width of the residual stream */
  uint32_t vocab; /* rows of the weight */
  uint32_t reserved0;
  const int32_t* sample_rows; /* i32[rows]; row of x, -1 for a row that is not there */
  const void* x; /* act[tokens, hidden] */
  const uint16_t* weight; /* bf16[vocab, hidden] */
  float* logits; /* f32[rows, vocab] */
} kl_lm_head_args;
KL_STATIC_ASSERT(sizeof(kl_lm_head_args) == 56, "size of kl_lm_head_args");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, size) == 0, "offset of kl_lm_head_args.size");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, dtype) == 4, "offset of kl_lm_head_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, rows) == 8, "offset of kl_lm_head_args.rows");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, hidden) == 12, "offset of kl_lm_head_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, vocab) == 16, "offset of kl_lm_head_args.vocab");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, reserved0) == 20, "offset of kl_lm_head_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, sample_rows) == 24, "offset of kl_lm_head_args.sample_rows");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, x) == 32, "offset of kl_lm_head_args.x");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, weight) == 40, "offset of kl_lm_head_args.weight");
KL_STATIC_ASSERT(offsetof(kl_lm_head_args, logits) == 48, "offset of kl_lm_head_args.logits");

/* sample (covers sample): one token per row: greedy when temperature is 0, else temperature, top-k, top-p; its log-probability */
typedef struct kl_sample_args {
  uint32_t size;
  uint32_t rows; /* bucket: rows that sample */
  uint32_t vocab; /* logits per row */
  uint32_t reserved0;
  const int32_t* sample_rows; /* i32[rows]; -1 for a row that is not there */
  const float* logits; /* f32[rows, vocab] */
  const float* temperature; /* f32[rows]; 0: the largest logit, lowest id on ties */
  const float* top_p; /* f32[rows]; 1: off */
  const int32_t* top_k; /* i32[rows]; 0: off */
  const uint64_t* seeds; /* u64[rows] */
  const uint64_t* counters; /* u64[rows]; with the seed, the key of the random number: same pair, same token */
  int32_t* token_ids; /* i32[rows] */
  float* logprobs; /* f32[rows]; natural logarithm of the unscaled softmax at the chosen token */
  int32_t* next_token_ids; /* i32[rows]; or null; the following step's token_ids, where sampling feeds it directly */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
} kl_sample_args;
KL_STATIC_ASSERT(sizeof(kl_sample_args) == 128, "size of kl_sample_args");
KL_STATIC_ASSERT(offsetof(kl_sample_args, size) == 0, "offset of kl_sample_args.size");
KL_STATIC_ASSERT(offsetof(kl_sample_args, rows) == 4, "offset of kl_sample_args.rows");
KL_STATIC_ASSERT(offsetof(kl_sample_args, vocab) == 8, "offset of kl_sample_args.vocab");
KL_STATIC_ASSERT(offsetof(kl_sample_args, reserved0) == 12, "offset of kl_sample_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_sample_args, sample_rows) == 16, "offset of kl_sample_args.sample_rows");
KL_STATIC_ASSERT(offsetof(kl_sample_args, logits) == 24, "offset of kl_sample_args.logits");
KL_STATIC_ASSERT(offsetof(kl_sample_args, temperature) == 32, "offset of kl_sample_args.temperature");
KL_STATIC_ASSERT(offsetof(kl_sample_args, top_p) == 40, "offset of kl_sample_args.top_p");
KL_STATIC_ASSERT(offsetof(kl_sample_args, top_k) == 48, "offset of kl_sample_args.top_k");
KL_STATIC_ASSERT(offsetof(kl_sample_args, seeds) == 56, "offset of kl_sample_args.seeds");
KL_STATIC_ASSERT(offsetof(kl_sample_args, counters) == 64, "offset of kl_sample_args.counters");
KL_STATIC_ASSERT(offsetof(kl_sample_args, token_ids) == 72, "offset of kl_sample_args.token_ids");
KL_STATIC_ASSERT(offsetof(kl_sample_args, logprobs) == 80, "offset of kl_sample_args.logprobs");
KL_STATIC_ASSERT(offsetof(kl_sample_args, next_token_ids) == 88, "offset of kl_sample_args.next_token_ids");
KL_STATIC_ASSERT(offsetof(kl_sample_args, scratch) == 96, "offset of kl_sample_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_sample_args, scratch_bytes) == 104, "offset of kl_sample_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_sample_args, state) == 112, "offset of kl_sample_args.state");
KL_STATIC_ASSERT(offsetof(kl_sample_args, state_bytes) == 120, "offset of kl_sample_args.state_bytes");

/* copy_rows (covers no node): dst[i] = src[i] for rows of bytes: packs, shards and concatenates weights */
typedef struct kl_copy_rows_args {
  uint32_t size;
  uint32_t reserved0;
  uint64_t rows; /* rows to copy */
  uint64_t row_bytes; /* bytes of a row */
  uint64_t src_stride; /* bytes from one source row to the next */
  uint64_t dst_stride; /* bytes from one destination row to the next */
  const uint8_t* src; /* u8[rows, src_stride] */
  uint8_t* dst; /* u8[rows, dst_stride] */
} kl_copy_rows_args;
KL_STATIC_ASSERT(sizeof(kl_copy_rows_args) == 56, "size of kl_copy_rows_args");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, size) == 0, "offset of kl_copy_rows_args.size");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, reserved0) == 4, "offset of kl_copy_rows_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, rows) == 8, "offset of kl_copy_rows_args.rows");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, row_bytes) == 16, "offset of kl_copy_rows_args.row_bytes");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, src_stride) == 24, "offset of kl_copy_rows_args.src_stride");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, dst_stride) == 32, "offset of kl_copy_rows_args.dst_stride");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, src) == 40, "offset of kl_copy_rows_args.src");
KL_STATIC_ASSERT(offsetof(kl_copy_rows_args, dst) == 48, "offset of kl_copy_rows_args.dst");

/* transpose_experts (covers no node): dst[e, j, i] = src[e, i, j]: experts stored [in, out] into layout bf16.rows */
typedef struct kl_transpose_experts_args {
  uint32_t size;
  uint32_t experts; /* matrices */
  uint32_t rows; /* rows of a source matrix (in) */
  uint32_t columns; /* columns of a source matrix (out) */
  const uint16_t* src; /* bf16[experts, rows, columns] */
  uint16_t* dst; /* bf16[experts, columns, rows] */
} kl_transpose_experts_args;
KL_STATIC_ASSERT(sizeof(kl_transpose_experts_args) == 32, "size of kl_transpose_experts_args");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, size) == 0, "offset of kl_transpose_experts_args.size");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, experts) == 4, "offset of kl_transpose_experts_args.experts");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, rows) == 8, "offset of kl_transpose_experts_args.rows");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, columns) == 12, "offset of kl_transpose_experts_args.columns");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, src) == 16, "offset of kl_transpose_experts_args.src");
KL_STATIC_ASSERT(offsetof(kl_transpose_experts_args, dst) == 24, "offset of kl_transpose_experts_args.dst");

/* mxfp4_dequantize (covers no node): MXFP4 blocks and scales to bf16.rows; exact, except for exponents that bf16 does not have */
typedef struct kl_mxfp4_dequantize_args {
  uint32_t size;
  uint32_t reserved0;
  uint64_t rows; /* experts * out */
  uint32_t columns; /* in; a multiple of 32 */
  uint32_t reserved1;
  const uint8_t* blocks; /* u8[rows, columns / 32, 16] */
  const uint8_t* scales; /* u8[rows, columns / 32] */
  uint16_t* dst; /* bf16[rows, columns] */
} kl_mxfp4_dequantize_args;
KL_STATIC_ASSERT(sizeof(kl_mxfp4_dequantize_args) == 48, "size of kl_mxfp4_dequantize_args");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, size) == 0, "offset of kl_mxfp4_dequantize_args.size");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, reserved0) == 4, "offset of kl_mxfp4_dequantize_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, rows) == 8, "offset of kl_mxfp4_dequantize_args.rows");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, columns) == 16, "offset of kl_mxfp4_dequantize_args.columns");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, reserved1) == 20, "offset of kl_mxfp4_dequantize_args.reserved1");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, blocks) == 24, "offset of kl_mxfp4_dequantize_args.blocks");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, scales) == 32, "offset of kl_mxfp4_dequantize_args.scales");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_dequantize_args, dst) == 40, "offset of kl_mxfp4_dequantize_args.dst");

/* norm_qkv_rope_kv (covers norm, qkv, rope, kv_write): rmsnorm of the stream, then qkv_rope_kv; the normed rows are rounded to the activation dtype as rmsnorm does */
typedef struct kl_norm_qkv_rope_kv_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t kv_dtype; /* dtype of the KV cache */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t heads; /* query heads */
  uint32_t kv_heads; /* key and value heads */
  uint32_t head_dim; /* width of a head */
  float eps; /* added to the mean square */
  float rope_scale; /* factor on both cosine and sine (YaRN: 0.1 ln(factor) + 1) */
  uint32_t block_table_stride; /* entries per row of block_table */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const int32_t* positions; /* i32[tokens] */
  const int32_t* block_table; /* i32[seqs, block_table_stride]; page of each 64 positions, by absolute position; -1: freed */
  const void* x; /* stream[tokens, hidden] */
  const uint16_t* norm_weight; /* bf16[hidden] */
  const uint16_t* weight; /* bf16[(heads + 2 * kv_heads) * head_dim, hidden]; rows of q, then k, then v */
  const uint16_t* bias; /* bf16[(heads + 2 * kv_heads) * head_dim] */
  const float* inv_freq; /* f32[head_dim / 2] */
  void* q; /* act[tokens, heads, head_dim] */
  void* kv; /* kv[page, 2, kv_heads, 64, head_dim]; this layer's pages (layout paged64.hnd) */
} kl_norm_qkv_rope_kv_args;
KL_STATIC_ASSERT(sizeof(kl_norm_qkv_rope_kv_args) == 128, "size of kl_norm_qkv_rope_kv_args");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, size) == 0, "offset of kl_norm_qkv_rope_kv_args.size");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, dtype) == 4, "offset of kl_norm_qkv_rope_kv_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, stream_dtype) == 8, "offset of kl_norm_qkv_rope_kv_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, kv_dtype) == 12, "offset of kl_norm_qkv_rope_kv_args.kv_dtype");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, tokens) == 16, "offset of kl_norm_qkv_rope_kv_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, hidden) == 20, "offset of kl_norm_qkv_rope_kv_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, heads) == 24, "offset of kl_norm_qkv_rope_kv_args.heads");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, kv_heads) == 28, "offset of kl_norm_qkv_rope_kv_args.kv_heads");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, head_dim) == 32, "offset of kl_norm_qkv_rope_kv_args.head_dim");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, eps) == 36, "offset of kl_norm_qkv_rope_kv_args.eps");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, rope_scale) == 40, "offset of kl_norm_qkv_rope_kv_args.rope_scale");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, block_table_stride) == 44, "offset of kl_norm_qkv_rope_kv_args.block_table_stride");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, row_seq) == 48, "offset of kl_norm_qkv_rope_kv_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, positions) == 56, "offset of kl_norm_qkv_rope_kv_args.positions");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, block_table) == 64, "offset of kl_norm_qkv_rope_kv_args.block_table");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, x) == 72, "offset of kl_norm_qkv_rope_kv_args.x");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, norm_weight) == 80, "offset of kl_norm_qkv_rope_kv_args.norm_weight");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, weight) == 88, "offset of kl_norm_qkv_rope_kv_args.weight");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, bias) == 96, "offset of kl_norm_qkv_rope_kv_args.bias");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, inv_freq) == 104, "offset of kl_norm_qkv_rope_kv_args.inv_freq");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, q) == 112, "offset of kl_norm_qkv_rope_kv_args.q");
KL_STATIC_ASSERT(offsetof(kl_norm_qkv_rope_kv_args, kv) == 120, "offset of kl_norm_qkv_rope_kv_args.kv");

/* norm_router (covers norm, router): rmsnorm of the stream (kept, the experts read it), then router on the rounded rows */
typedef struct kl_norm_router_args {
  uint32_t size;
  uint32_t dtype; /* activation dtype */
  uint32_t stream_dtype; /* dtype of the residual stream */
  uint32_t tokens; /* bucket: token rows of this launch */
  uint32_t hidden; /* width of the residual stream */
  uint32_t experts; /* rows of the weight */
  uint32_t top_k; /* experts chosen per token */
  float eps; /* added to the mean square */
  const int32_t* row_seq; /* i32[tokens]; sequence of each row, -1 for a row that is not there */
  const void* x; /* stream[tokens, hidden] */
  const uint16_t* norm_weight; /* bf16[hidden] */
  const uint16_t* weight; /* bf16[experts, hidden] */
  const uint16_t* bias; /* bf16[experts] */
  void* normed; /* act[tokens, hidden] */
  int32_t* expert_ids; /* i32[tokens, top_k]; by falling logit */
  float* expert_weights; /* f32[tokens, top_k] */
  uint8_t* scratch; /* u8[scratch_bytes]; or null; undefined on entry */
  uint64_t scratch_bytes; /* at least what variant.json's rule gives */
  uint8_t* state; /* u8[state_bytes]; or null; zeroed once when the program is built; left zero by every launch */
  uint64_t state_bytes; /* at least what variant.json's rule gives */
} kl_norm_router_args;
KL_STATIC_ASSERT(sizeof(kl_norm_router_args) == 128, "size of kl_norm_router_args");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, size) == 0, "offset of kl_norm_router_args.size");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, dtype) == 4, "offset of kl_norm_router_args.dtype");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, stream_dtype) == 8, "offset of kl_norm_router_args.stream_dtype");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, tokens) == 12, "offset of kl_norm_router_args.tokens");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, hidden) == 16, "offset of kl_norm_router_args.hidden");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, experts) == 20, "offset of kl_norm_router_args.experts");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, top_k) == 24, "offset of kl_norm_router_args.top_k");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, eps) == 28, "offset of kl_norm_router_args.eps");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, row_seq) == 32, "offset of kl_norm_router_args.row_seq");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, x) == 40, "offset of kl_norm_router_args.x");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, norm_weight) == 48, "offset of kl_norm_router_args.norm_weight");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, weight) == 56, "offset of kl_norm_router_args.weight");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, bias) == 64, "offset of kl_norm_router_args.bias");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, normed) == 72, "offset of kl_norm_router_args.normed");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, expert_ids) == 80, "offset of kl_norm_router_args.expert_ids");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, expert_weights) == 88, "offset of kl_norm_router_args.expert_weights");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, scratch) == 96, "offset of kl_norm_router_args.scratch");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, scratch_bytes) == 104, "offset of kl_norm_router_args.scratch_bytes");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, state) == 112, "offset of kl_norm_router_args.state");
KL_STATIC_ASSERT(offsetof(kl_norm_router_args, state_bytes) == 120, "offset of kl_norm_router_args.state_bytes");

/* mxfp4_tiles (covers no node): mxfp4.rows to mxfp4.tiles, rows a multiple of 8, missing columns of the last tile 0. Bytes 8 l .. 8 l + 7 of a tile are lane l's: row l / 4, columns 16 s + 2 (l % 4) + {0, 1, 8, 9} for s = 0 .. 3; word h holds s = 2 h, 2 h + 1. In a word, element pair p (2 (s % 2) + column / 8) sits in both halves, the lower column in the low one: pair 0 has sign 15, code 8..6; pair 1 sign 12, code 5..3; pair 2 sign 9, code 2..0; pair 3 sign 14, code 13, 11, 10. Byte 256 + 2 r + b: scale of row r, block b, at most 160, plus 94 */
typedef struct kl_mxfp4_tiles_args {
  uint32_t size;
  uint32_t reserved0;
  uint64_t rows; /* experts * out */
  uint32_t columns; /* in; a multiple of 32 */
  uint32_t reserved1;
  const uint8_t* blocks; /* u8[rows, columns / 32, 16] */
  const uint8_t* scales; /* u8[rows, columns / 32] */
  uint8_t* dst; /* u8[rows / 8, ceil(columns / 64), 272] */
} kl_mxfp4_tiles_args;
KL_STATIC_ASSERT(sizeof(kl_mxfp4_tiles_args) == 48, "size of kl_mxfp4_tiles_args");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, size) == 0, "offset of kl_mxfp4_tiles_args.size");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, reserved0) == 4, "offset of kl_mxfp4_tiles_args.reserved0");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, rows) == 8, "offset of kl_mxfp4_tiles_args.rows");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, columns) == 16, "offset of kl_mxfp4_tiles_args.columns");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, reserved1) == 20, "offset of kl_mxfp4_tiles_args.reserved1");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, blocks) == 24, "offset of kl_mxfp4_tiles_args.blocks");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, scales) == 32, "offset of kl_mxfp4_tiles_args.scales");
KL_STATIC_ASSERT(offsetof(kl_mxfp4_tiles_args, dst) == 40, "offset of kl_mxfp4_tiles_args.dst");

#ifdef __cplusplus
}
#endif
#endif
