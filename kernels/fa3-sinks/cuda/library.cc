// fa3-sinks for CUDA, mode bf16: what each op launches.
#include "cuda/library.h"
#include "params.h"

KL_IMAGE("fa3-sinks.cubin")

namespace {
using namespace kl;

constexpr uint32_t decode_shared = 3 * 2 * 64 * 64 * 2, prefill_shared = (4 * 2 + 2) * 64 * 64 * 2 + 1024;
enum Kernel : uint32_t { decode_kernel, prefill_kernel };
constexpr KernelInfo kernels[] = {{"attn_decode", decode_shared}, {"attn_prefill", prefill_shared}};

template <class Args>
kl_status check(const Instance& i, const Args& a) {
  if (a.dtype != KL_BF16 || a.kv_dtype != KL_BF16) return i.refuse(KL_UNSUPPORTED, "attn: activations and cache are bf16.");
  if (a.tokens == 0 || a.seqs == 0 || a.max_context == 0 || a.head_dim != 64 || a.kv_heads == 0 || a.heads % a.kv_heads != 0 ||
      a.heads / a.kv_heads > 8 || a.block_table_stride == 0) {
    return i.refuse(KL_INVALID, "attn: a size is out of its limits.");
  }
  if (!all_present(a.context, a.block_table, a.q, a.kv, a.sinks, a.out)) return i.refuse(KL_INVALID, "attn: a pointer is missing.");
  return KL_OK;
}
template <class Args>
AttentionParams common(const Args& a) {
  AttentionParams p = {};
  p.q = static_cast<const uint16_t*>(a.q), p.kv = static_cast<const uint16_t*>(a.kv), p.out = static_cast<uint16_t*>(a.out);
  p.context = a.context, p.block_table = a.block_table, p.sinks = a.sinks;
  p.tokens = a.tokens, p.seqs = a.seqs, p.heads = a.heads, p.kv_heads = a.kv_heads, p.window = a.window;
  p.block_table_stride = a.block_table_stride, p.scale = a.scale;
  return p;
}

// Parts of a sequence's pages: a function of the bucket alone, at most 32 (the workspace rule counts 32).
constexpr uint32_t most_splits = 32;
kl_status attn_decode(const Instance& i, const Launcher& launch, const kl_attn_decode_args& a) {
  if (kl_status s = check(i, a); s != KL_OK) return s;
  AttentionParams p = common(a);
  const uint32_t keys = a.window != 0 && a.window < a.max_context ? a.window : a.max_context;
  const uint32_t pages = ceil_div(keys, 64) + 1, blocks = a.kv_heads * a.seqs;
  p.splits = ceil_div(2 * i.device.multiprocessors, blocks);
  if (p.splits > ceil_div(pages, 2)) p.splits = ceil_div(pages, 2);
  if (p.splits > most_splits) p.splits = most_splits;
  if (pages <= 4) p.splits = 1;
  Arena scratch(a.scratch, a.scratch_bytes), state(a.state, a.state_bytes);
  p.partial = scratch.take<float>(uint64_t(a.seqs) * a.kv_heads * most_splits * 8 * 66);
  p.arrived = state.take<uint32_t>(uint64_t(a.seqs) * a.kv_heads);
  if (!scratch.fits() || !state.fits()) return i.refuse(KL_WORKSPACE, "attn_decode: scratch or state is too small.");
  return launch(decode_kernel, {a.kv_heads, a.seqs, p.splits}, 128, decode_shared, p);
}

kl_status attn_prefill(const Instance& i, const Launcher& launch, const kl_attn_prefill_args& a) {
  if (kl_status s = check(i, a); s != KL_OK) return s;
  const uint32_t group = a.heads / a.kv_heads;
  if (128 % group != 0 || a.query_start == nullptr) return i.refuse(KL_INVALID, "attn_prefill: a size is out of its limits, or a pointer is missing.");
  PrefillParams p = {};
  p.attention = common(a);
  p.attention.query_start = a.query_start;
  const uint64_t rows = 0x7fffffc0;  // the cache's end is not known here; pages come from the table
  if (kl_status s = matrix_map(i, p.map, a.kv, rows, 64, 64); s != KL_OK) return s;
  const uint32_t tile_tokens = 128 / group;
  return launch(prefill_kernel, {a.tokens / tile_tokens + (a.seqs < a.tokens ? a.seqs : a.tokens), a.kv_heads}, 256, prefill_shared, p);
}

#define OPS(X)                                 \
  X(KL_OP_ATTN_DECODE, attn_decode, attn_decode) \
  X(KL_OP_ATTN_PREFILL, attn_prefill, attn_prefill)
}  // namespace
KL_DEFINE_CUDA_LIBRARY(OPS)
