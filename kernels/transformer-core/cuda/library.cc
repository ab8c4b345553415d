// transformer-core for CUDA, mode bf16: what each op launches.
#include "cuda/library.h"
#include "params.h"

KL_IMAGE("transformer-core.cubin")

namespace {
using namespace kl;

constexpr uint32_t block_shared = 224 * 1024;
enum Kernel : uint32_t {
  embed_kernel,
  gemv_qkv_5,
  gemv_norm_qkv_5,
  gemv_act_5,
  gemv_act_6,
  gemv_residual_5,
  gemv_residual_6,
  gemv_logits_5,
  router_kernel,
  residual_kernel,
  sample_kernel,
  copy_kernel,
  transpose_kernel,
  gemm_qkv_64,
  gemm_qkv_128,
  gemm_act_64,
  gemm_act_128,
  gemm_residual_64,
  gemm_residual_128,
  gemm_logits_64,
  router_many_kernel,
};
constexpr KernelInfo kernels[] = {
    {"embed", 0},          {"gemv_qkv_5", block_shared},      {"gemv_norm_qkv_5", block_shared}, {"gemv_act_5", block_shared},
    {"gemv_act_6", block_shared}, {"gemv_residual_5", block_shared}, {"gemv_residual_6", block_shared},
    {"gemv_logits_5", block_shared}, {"router", 64 * 1024},   {"residual", 0},
    {"sample", 0},         {"copy_rows", 0},                  {"transpose_experts", 0},
    {"gemm_qkv_64", block_shared},   {"gemm_qkv_128", block_shared},     {"gemm_act_64", block_shared},
    {"gemm_act_128", block_shared},  {"gemm_residual_64", block_shared}, {"gemm_residual_128", block_shared},
    {"gemm_logits_64", block_shared}, {"router_many", block_shared, true},
};

constexpr uint32_t gemv_rows = 8;

bool is_stream(uint32_t dtype) { return dtype == KL_F32 || dtype == KL_BF16; }

kl_status embed(const Instance& i, const Launcher& launch, const kl_embed_args& a) {
  if (!is_stream(a.stream_dtype)) return i.refuse(KL_UNSUPPORTED, "embed: the stream is f32 or bf16.");
  if (a.tokens == 0 || a.hidden == 0 || a.hidden % 64 != 0 || a.vocab == 0) return i.refuse(KL_INVALID, "embed: a size is out of its limits.");
  if (!all_present(a.row_seq, a.token_ids, a.weight, a.out)) return i.refuse(KL_INVALID, "embed: a pointer is missing.");
  return launch(embed_kernel, {a.tokens}, 128, 0,
                EmbedParams{a.row_seq, a.token_ids, a.weight, a.out, a.hidden, a.vocab, a.stream_dtype == KL_F32});
}

// Up to 8 rows: units of 8 weight rows, spread so that every block owns equally many. A block asks for more than half of a
// multiprocessor's shared memory, so that two of one launch never share one (the other would idle), and for little enough
// that a block of the neighbouring launches fits beside it.
constexpr uint32_t gemv_small_depth = 2 * 5 * 11 * 32, gemv_max_depth = 2 * 6 * 11 * 32, exclusive_shared = 115 * 1024;
kl_status gemv(const Launcher& launch, Kernel small, Kernel large, GemvParams p, uint32_t out_features) {
  p.units = out_features / 8;
  p.units_per_block = ceil_div(p.units, launch.instance.device.multiprocessors);
  p.row_stride = ceil_div(p.depth / 32, 2) * 64;
  if (p.row_stride % 128 == 0) p.row_stride += 64;
  const uint32_t stage = 8 * p.row_stride, rest = 6 * 11 * 8 * 4 * p.tokens + (p.norm_weight != nullptr ? p.depth * 2 : 0);
  const bool sm90a = launch.instance.sm90a();
  p.stages = (sm90a ? 101 * 1024 : launch.instance.block_shared() - rest) / stage;
  if (p.stages > 8) p.stages = 8;
  uint32_t shared = p.stages * stage + rest;
  if (shared < exclusive_shared && sm90a) shared = exclusive_shared;
  return launch(p.depth <= gemv_small_depth ? small : large, {ceil_div(p.units, p.units_per_block)}, 384, shared, p);
}

// More rows: tiles of 64 tokens while those are few (weights are what costs), else of 128 by 128.
kl_status gemm(const Instance& i, const Launcher& launch, Kernel small, uint32_t small_features, uint32_t small_stages, Kernel large,
               const void* x, bool gather, const uint16_t* weight, const int32_t* rows, uint32_t tokens, uint32_t depth, uint32_t features,
               const Epilogue& epilogue) {
  const bool is_small = tokens <= 64 || gather;
  const uint32_t block_tokens = is_small ? 64 : 128, block_features = is_small ? small_features : 128, stages = is_small ? small_stages : 3;
  GemmParams p = {};
  if (!gather) {
    if (kl_status s = matrix_map(i, p.a, x, tokens, depth, block_tokens); s != KL_OK) return s;
  }
  if (kl_status s = matrix_map(i, p.b, weight, features, depth, block_features); s != KL_OK) return s;
  p.x = static_cast<const uint16_t*>(x), p.rows = rows, p.tokens = tokens, p.features = features, p.depth = depth, p.epilogue = epilogue;
  return launch(is_small ? small : large, {ceil_div(tokens, block_tokens), ceil_div(features, block_features)}, block_tokens * 2 + 32,
                stages * (block_tokens + block_features) * 128 + 1024, p);
}

struct Qkv {
  uint32_t dtype, kv_dtype, tokens, hidden, heads, kv_heads, head_dim;
};
kl_status check_qkv(const Instance& i, const Qkv& a) {
  if (a.dtype != KL_BF16 || a.kv_dtype != KL_BF16) return i.refuse(KL_UNSUPPORTED, "qkv_rope_kv: activations and cache are bf16.");
  if (a.tokens == 0 || a.hidden == 0 || a.hidden % 64 != 0 || a.head_dim != 64 || a.kv_heads == 0 || a.heads % a.kv_heads != 0) {
    return i.refuse(KL_INVALID, "qkv_rope_kv: a size is out of its limits.");
  }
  return KL_OK;
}

template <class Args>
Epilogue qkv_epilogue(const Args& a) {
  Epilogue e = {};
  e.bias = a.bias, e.out = a.q, e.features = a.heads * 64;
  e.positions = a.positions, e.block_table = a.block_table, e.inv_freq = a.inv_freq, e.kv = static_cast<uint16_t*>(a.kv);
  e.heads = a.heads, e.kv_heads = a.kv_heads, e.block_table_stride = a.block_table_stride, e.rope_scale = a.rope_scale;
  return e;
}

kl_status qkv_rope_kv(const Instance& i, const Launcher& launch, const kl_qkv_rope_kv_args& a) {
  if (kl_status s = check_qkv(i, {a.dtype, a.kv_dtype, a.tokens, a.hidden, a.heads, a.kv_heads, a.head_dim}); s != KL_OK) return s;
  if (!all_present(a.row_seq, a.positions, a.block_table, a.x, a.weight, a.bias, a.inv_freq, a.q, a.kv)) return i.refuse(KL_INVALID, "qkv_rope_kv: a pointer is missing.");
  const uint32_t features = (a.heads + 2 * a.kv_heads) * 64;
  if (a.tokens > gemv_rows || a.hidden > gemv_small_depth) {
    return gemm(i, launch, gemm_qkv_64, 64, 6, gemm_qkv_128, a.x, false, a.weight, a.row_seq, a.tokens, a.hidden, features, qkv_epilogue(a));
  }
  GemvParams p = {};
  p.x = a.x, p.weight = a.weight, p.rows = a.row_seq, p.tokens = a.tokens, p.depth = a.hidden, p.epilogue = qkv_epilogue(a);
  return gemv(launch, gemv_qkv_5, gemv_qkv_5, p, features);
}

kl_status norm_qkv_rope_kv(const Instance& i, const Launcher& launch, const kl_norm_qkv_rope_kv_args& a) {
  if (kl_status s = check_qkv(i, {a.dtype, a.kv_dtype, a.tokens, a.hidden, a.heads, a.kv_heads, a.head_dim}); s != KL_OK) return s;
  if (!is_stream(a.stream_dtype)) return i.refuse(KL_UNSUPPORTED, "norm_qkv_rope_kv: the stream is f32 or bf16.");
  if (a.tokens > gemv_rows || a.hidden > gemv_small_depth) return i.refuse(KL_INVALID, "norm_qkv_rope_kv: at most 8 tokens.");
  if (!all_present(a.row_seq, a.positions, a.block_table, a.x, a.norm_weight, a.weight, a.bias, a.inv_freq, a.q, a.kv)) return i.refuse(KL_INVALID, "norm_qkv_rope_kv: a pointer is missing.");
  GemvParams p = {};
  p.x = a.x, p.x_f32 = a.stream_dtype == KL_F32, p.norm_weight = a.norm_weight, p.eps = a.eps;
  p.weight = a.weight, p.rows = a.row_seq, p.tokens = a.tokens, p.depth = a.hidden, p.epilogue = qkv_epilogue(a);
  return gemv(launch, gemv_norm_qkv_5, gemv_norm_qkv_5, p, (a.heads + 2 * a.kv_heads) * 64);
}

kl_status project(const Instance& i, const Launcher& launch, uint32_t dtype, uint32_t tokens, uint32_t depth, uint32_t features,
                  const int32_t* rows, const void* x, const uint16_t* weight, const uint16_t* bias, void* out, bool residual,
                  bool stream_f32) {
  if (dtype != KL_BF16) return i.refuse(KL_UNSUPPORTED, "o_proj: activations are bf16.");
  if (tokens == 0 || depth == 0 || depth % 64 != 0 || features == 0 || features % 8 != 0) return i.refuse(KL_INVALID, "o_proj: a size is out of its limits.");
  if (!all_present(rows, x, weight, out)) return i.refuse(KL_INVALID, "o_proj: a pointer is missing.");
  Epilogue e = {};
  e.bias = bias, e.out = out, e.features = features, e.stream_f32 = stream_f32;
  if (tokens > gemv_rows || depth > gemv_max_depth) {
    return gemm(i, launch, residual ? gemm_residual_64 : gemm_act_64, 32, 8, residual ? gemm_residual_128 : gemm_act_128, x, false, weight, rows,
                tokens, depth, features, e);
  }
  GemvParams p = {};
  p.x = x, p.weight = weight, p.rows = rows, p.tokens = tokens, p.depth = depth, p.epilogue = e;
  return gemv(launch, residual ? gemv_residual_5 : gemv_act_5, residual ? gemv_residual_6 : gemv_act_6, p, features);
}
kl_status o_proj(const Instance& i, const Launcher& launch, const kl_o_proj_args& a) {
  return project(i, launch, a.dtype, a.tokens, a.in_features, a.out_features, a.row_seq, a.x, a.weight, a.bias, a.out, false, false);
}
kl_status o_proj_residual(const Instance& i, const Launcher& launch, const kl_o_proj_residual_args& a) {
  if (!is_stream(a.stream_dtype)) return i.refuse(KL_UNSUPPORTED, "o_proj_residual: the stream is f32 or bf16.");
  return project(i, launch, a.dtype, a.tokens, a.in_features, a.out_features, a.row_seq, a.x, a.weight, a.bias, a.stream, true,
                 a.stream_dtype == KL_F32);
}

kl_status residual(const Instance& i, const Launcher& launch, const kl_residual_args& a) {
  if (a.dtype != KL_BF16 || !is_stream(a.stream_dtype)) return i.refuse(KL_UNSUPPORTED, "residual: activations are bf16, the stream f32 or bf16.");
  if (a.tokens == 0 || a.hidden == 0) return i.refuse(KL_INVALID, "residual: a size is out of its limits.");
  if (!all_present(a.row_seq, a.x, a.stream)) return i.refuse(KL_INVALID, "residual: a pointer is missing.");
  return launch(residual_kernel, {a.tokens}, 128, 0,
                ResidualParams{a.row_seq, static_cast<const uint16_t*>(a.x), a.stream, a.hidden, a.stream_dtype == KL_F32});
}

kl_status route(const Instance& i, const Launcher& launch, const RouterParams& p) {
  if (p.tokens == 0 || p.hidden == 0 || p.hidden % 64 != 0 || p.hidden > 8192 || p.experts == 0 || p.experts > 256 ||
      p.top_k == 0 || p.top_k > 8 || p.top_k > p.experts) {
    return i.refuse(KL_INVALID, "router: a size is out of its limits.");
  }
  if (!i.sm90a()) return launch(router_kernel, {ceil_div(p.tokens, 16)}, 256, 16 * p.experts * 4, p);
  const uint32_t many_shared = 16 * (p.hidden * 2 + 64) + 8 * 16 * p.experts * 4;
  if (p.tokens > 64 && many_shared <= block_shared) return launch(router_many_kernel, {ceil_div(p.tokens, 16)}, 256, many_shared, p);
  return launch(router_kernel, {ceil_div(p.tokens, 8) * 8}, 256, p.hidden * 4, p, 8);
}
kl_status router(const Instance& i, const Launcher& launch, const kl_router_args& a) {
  if (a.dtype != KL_BF16) return i.refuse(KL_UNSUPPORTED, "router: activations are bf16.");
  if (!all_present(a.row_seq, a.x, a.weight, a.bias, a.expert_ids, a.expert_weights)) return i.refuse(KL_INVALID, "router: a pointer is missing.");
  return route(i, launch, {a.x, nullptr, a.weight, a.bias, a.row_seq, nullptr, a.expert_ids, a.expert_weights, 0, a.tokens,
                           a.hidden, a.experts, a.top_k, 0});
}
kl_status norm_router(const Instance& i, const Launcher& launch, const kl_norm_router_args& a) {
  if (a.dtype != KL_BF16 || !is_stream(a.stream_dtype)) return i.refuse(KL_UNSUPPORTED, "norm_router: activations are bf16, the stream f32 or bf16.");
  if (!all_present(a.row_seq, a.x, a.norm_weight, a.weight, a.bias, a.normed, a.expert_ids, a.expert_weights)) return i.refuse(KL_INVALID, "norm_router: a pointer is missing.");
  return route(i, launch, {a.x, a.norm_weight, a.weight, a.bias, a.row_seq, static_cast<uint16_t*>(a.normed), a.expert_ids,
                           a.expert_weights, a.stream_dtype == KL_F32, a.tokens, a.hidden, a.experts, a.top_k, a.eps});
}

kl_status lm_head(const Instance& i, const Launcher& launch, const kl_lm_head_args& a) {
  if (a.dtype != KL_BF16) return i.refuse(KL_UNSUPPORTED, "lm_head: activations are bf16.");
  if (a.rows == 0 || a.hidden == 0 || a.hidden % 64 != 0 || a.vocab == 0 || a.vocab % 8 != 0) return i.refuse(KL_INVALID, "lm_head: a size is out of its limits.");
  if (!all_present(a.sample_rows, a.x, a.weight, a.logits)) return i.refuse(KL_INVALID, "lm_head: a pointer is missing.");
  Epilogue e = {};
  e.out = a.logits, e.features = a.vocab;
  if (a.rows > gemv_rows || a.hidden > gemv_small_depth) {
    return gemm(i, launch, gemm_logits_64, 128, 4, gemm_logits_64, a.x, true, a.weight, a.sample_rows, a.rows, a.hidden, a.vocab, e);
  }
  GemvParams p = {};
  p.x = a.x, p.weight = a.weight, p.rows = a.sample_rows, p.gather = 1, p.tokens = a.rows, p.depth = a.hidden, p.epilogue = e;
  return gemv(launch, gemv_logits_5, gemv_logits_5, p, a.vocab);
}

constexpr uint32_t sample_splits = 32;
kl_status sample(const Instance& i, const Launcher& launch, const kl_sample_args& a) {
  if (a.rows == 0 || a.vocab == 0) return i.refuse(KL_INVALID, "sample: a size is out of its limits.");
  if (!all_present(a.sample_rows, a.logits, a.temperature, a.top_p, a.top_k, a.seeds, a.counters, a.token_ids, a.logprobs)) return i.refuse(KL_INVALID, "sample: a pointer is missing.");
  Arena scratch(a.scratch, a.scratch_bytes), state(a.state, a.state_bytes);
  float* partial = scratch.take<float>(uint64_t(a.rows) * sample_splits * 4);
  uint32_t* arrived = state.take<uint32_t>(a.rows);
  if (!scratch.fits() || !state.fits()) return i.refuse(KL_WORKSPACE, "sample: scratch or state is too small.");
  return launch(sample_kernel, {sample_splits, a.rows}, 512, 0,
                SampleParams{a.sample_rows, a.logits, a.temperature, a.top_p, a.top_k, a.seeds, a.counters, a.token_ids,
                             a.logprobs, a.next_token_ids, partial, arrived, a.vocab, sample_splits});
}

kl_status copy_rows(const Instance& i, const Launcher& launch, const kl_copy_rows_args& a) {
  if (a.rows == 0 || a.row_bytes == 0) return KL_OK;
  if (!all_present(a.src, a.dst)) return i.refuse(KL_INVALID, "copy_rows: a pointer is missing.");
  return launch(copy_kernel, {a.rows < 4096 ? uint32_t(a.rows) : 4096}, 256, 0,
                CopyParams{a.src, a.dst, a.rows, a.row_bytes, a.src_stride, a.dst_stride});
}
kl_status transpose_experts(const Instance& i, const Launcher& launch, const kl_transpose_experts_args& a) {
  if (a.experts == 0 || a.rows == 0 || a.columns == 0 || a.experts > 65535 || a.rows > 65535 * 32u) return i.refuse(KL_INVALID, "transpose_experts: a size is out of its limits.");
  if (!all_present(a.src, a.dst)) return i.refuse(KL_INVALID, "transpose_experts: a pointer is missing.");
  return launch(transpose_kernel, {ceil_div(a.columns, 32), ceil_div(a.rows, 32), a.experts}, 256, 0,
                TransposeParams{a.src, a.dst, a.rows, a.columns});
}

#define OPS(X)                                          \
  X(KL_OP_EMBED, embed, embed)                          \
  X(KL_OP_QKV_ROPE_KV, qkv_rope_kv, qkv_rope_kv)        \
  X(KL_OP_NORM_QKV_ROPE_KV, norm_qkv_rope_kv, norm_qkv_rope_kv) \
  X(KL_OP_O_PROJ, o_proj, o_proj)                       \
  X(KL_OP_O_PROJ_RESIDUAL, o_proj_residual, o_proj_residual) \
  X(KL_OP_RESIDUAL, residual, residual)                 \
  X(KL_OP_ROUTER, router, router)                       \
  X(KL_OP_NORM_ROUTER, norm_router, norm_router)        \
  X(KL_OP_LM_HEAD, lm_head, lm_head)                    \
  X(KL_OP_SAMPLE, sample, sample)                       \
  X(KL_OP_COPY_ROWS, copy_rows, copy_rows)              \
  X(KL_OP_TRANSPOSE_EXPERTS, transpose_experts, transpose_experts)
}  // namespace
KL_DEFINE_CUDA_LIBRARY(OPS)
