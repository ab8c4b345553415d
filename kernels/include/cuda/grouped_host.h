// What a mixture of experts over sorted tokens launches: sort, permute, up with SwiGLU, down, combine.
#pragma once
#include "cuda/grouped.h"
#include "cuda/library.h"

namespace kl {

// Kernels by tile width (16, 32, 64, 128 tokens).
struct GroupedKernels {
  uint32_t sort, permute, arrange, up[4], down[4], combine;
};
constexpr uint32_t grouped_widths[4] = {16, 32, 64, 128};

// weights(map, up or down weight, local experts, rows, depth) describes them to the copies.
template <bool mxfp4, class Args, class Weights>
kl_status run_grouped(const Instance& i, const Launcher& launch, const Args& a, void* out, bool accumulate, const GroupedKernels& k,
                      const Weights& weights) {
  const uint32_t pairs = a.tokens * a.top_k, local = a.expert_end - a.expert_begin;
  // The width follows the tokens an expert gets on average, with room for unevenness.
  const uint32_t average = ceil_div(pairs, a.experts);
  const uint32_t choice = average <= 9 ? 0 : average <= 16 ? 1 : average <= 48 ? 2 : 3, width = grouped_widths[choice];
  const uint32_t shared = grouped_shared_bytes(mxfp4, width, i.sm90a());
  const uint32_t most_tiles = pairs / width + (local < pairs ? local : pairs);
  Arena scratch(a.scratch, a.scratch_bytes);
  uint16_t* permuted = scratch.take<uint16_t>(uint64_t(pairs) * a.hidden);  // x sorted; later y
  uint16_t* h = scratch.take<uint16_t>(uint64_t(pairs) * a.intermediate);
  Sorted sorted;
  sorted.place = scratch.take<int32_t>(uint64_t(pairs) * 4);
  sorted.tiles = sorted.place + pairs;  // 3 words each; where there may be more tiles than pairs, behind the count
  int32_t* extra = scratch.take<int32_t>(uint64_t(a.experts) * 4 + 16);
  sorted.tile_count = extra;
  if (most_tiles > pairs) sorted.tiles = extra + 16;
  if (!scratch.fits()) return i.refuse(KL_WORKSPACE, "moe: scratch is too small.");
  if (most_tiles > pairs && 3 * most_tiles > 4 * a.experts) return i.refuse(KL_INVALID, "moe: a size is out of its limits.");

  const SortParams sort = {sorted, a.row_seq, a.expert_ids, a.tokens, a.top_k, a.experts, a.expert_begin, a.expert_end, width, most_tiles};
  const uint16_t* x = static_cast<const uint16_t*>(a.x);
  if (pairs <= arranged_pairs) {
    if (kl_status s = launch(k.arrange, {a.tokens + 1}, arranging_threads, 0, ArrangeParams{sort, x, permuted, a.hidden}); s != KL_OK) return s;
  } else {
    if (kl_status s = launch(k.sort, {1}, 1024, 0, sort); s != KL_OK) return s;
    if (kl_status s = launch(k.permute, {a.tokens}, 384, 0, PermuteParams{sorted, x, permuted, a.top_k, a.hidden}); s != KL_OK) return s;
  }

  GroupedParams p = {};
  p.sorted = sorted, p.experts = local, p.alpha = a.alpha, p.limit = a.limit;
  p.rows = 2 * a.intermediate, p.depth = a.hidden, p.bias = a.up_bias, p.out = h;
  p.strips = p.rows / 8;
  if (kl_status s = weights(p.weights, a.up_weight, local, p.rows, p.depth); s != KL_OK) return s;
  if (kl_status s = matrix_map(i, p.x, permuted, pairs, p.depth, width); s != KL_OK) return s;
  // Wide tiles on sm_90a: no more blocks than run at once, each for several items. Elsewhere a block an item, which evens out better.
  const auto blocks = [&] {
    const uint32_t items = ceil_div(p.rows, grouped_rows) * most_tiles, at_once = i.device.multiprocessors * grouped_blocks(mxfp4, width);
    return width >= 64 && i.sm90a() && at_once < items ? at_once : items;
  };
  if (kl_status s = launch(k.up[choice], {blocks()}, grouped_threads(width), shared, p); s != KL_OK) return s;

  p.rows = a.hidden, p.depth = a.intermediate, p.bias = a.down_bias, p.out = permuted;
  p.strips = p.rows / 8;
  if (kl_status s = weights(p.weights, a.down_weight, local, p.rows, p.depth); s != KL_OK) return s;
  if (kl_status s = matrix_map(i, p.x, h, pairs, p.depth, width); s != KL_OK) return s;
  if (kl_status s = launch(k.down[choice], {blocks()}, grouped_threads(width), shared, p); s != KL_OK) return s;

  const CombineParams combine = {sorted, a.row_seq, a.expert_weights, permuted, out, a.top_k, a.hidden, accumulate, a.stream_dtype == KL_F32};
  return launch(k.combine, {a.tokens}, 384, 0, combine);
}

template <class Args>
kl_status check_moe(const Instance& i, const Args& a, const void* out, uint32_t layout) {
  if (a.dtype != KL_BF16 || a.layout != layout) return i.refuse(KL_UNSUPPORTED, "moe: activations are bf16, and the layout is not this package's.");
  if (a.stream_dtype != KL_BF16 && a.stream_dtype != KL_F32) return i.refuse(KL_UNSUPPORTED, "moe: the stream is f32 or bf16.");
  if (a.tokens == 0 || a.tokens > 65536 || a.hidden == 0 || a.hidden % 64 != 0 || a.intermediate == 0 || a.intermediate % 64 != 0 ||
      a.top_k == 0 || a.top_k > 8 || a.experts == 0 || a.experts > 256 || a.expert_begin >= a.expert_end || a.expert_end > a.experts) {
    return i.refuse(KL_INVALID, "moe: a size is out of its limits.");
  }
  if (!all_present(a.row_seq, a.x, a.expert_ids, a.expert_weights, a.up_weight, a.up_bias, a.down_weight, a.down_bias, out)) {
    return i.refuse(KL_INVALID, "moe: a pointer is missing.");
  }
  return KL_OK;
}

}  // namespace kl
