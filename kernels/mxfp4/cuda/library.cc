// mxfp4 for CUDA, mode bf16: what each op launches.
#include "cuda/grouped_host.h"
#include "params.h"

KL_IMAGE("mxfp4.cubin")

namespace {
using namespace kl;

constexpr uint32_t block_shared = 224 * 1024;
constexpr uint32_t direct_warps = 15, direct_tiles = 3, direct_tokens = 8, direct_most_strips = 4;
enum Kernel : uint32_t { up_kernel, down_kernel, tiles_kernel, dequantize_kernel, sort_kernel, permute_kernel, arrange_kernel, up_16, up_32, up_64, up_128, down_16, down_32, down_64, down_128, combine_kernel };
constexpr KernelInfo kernels[] = {
    {"moe_direct_up", block_shared}, {"moe_direct_down", block_shared}, {"mxfp4_tiles", 0}, {"mxfp4_dequantize", 0},
    {"moe_sort", 0}, {"moe_permute", 0}, {"moe_arrange", 0},
    {"moe_up_16", block_shared}, {"moe_up_32", block_shared}, {"moe_up_64", block_shared}, {"moe_up_128", block_shared},
    {"moe_down_16", block_shared}, {"moe_down_32", block_shared}, {"moe_down_64", block_shared}, {"moe_down_128", block_shared},
    {"moe_combine", 0},
};
constexpr GroupedKernels grouped = {sort_kernel, permute_kernel, arrange_kernel, {up_16, up_32, up_64, up_128}, {down_16, down_32, down_64, down_128}, combine_kernel};

template <class Args>
kl_status run_moe(const Instance& i, const Launcher& launch, const Args& a, void* out, bool accumulate) {
  if (kl_status s = check_moe(i, a, out, KL_LAYOUT_MXFP4_TILES); s != KL_OK) return s;
  if (a.tokens > direct_tokens || a.hidden > direct_warps * direct_tiles * 64 || a.intermediate > direct_warps * direct_tiles * 64) {
    // Boxes of 24 strips of two tiles: rows beyond the weight and columns beyond a row read as zero.
    const auto weights = [&](TileMap& map, const void* weight, uint32_t experts, uint32_t rows, uint32_t depth) {
      const uint64_t per_row = depth / 64;
      return encode(i, map, {weight, Element::u32, {tile_bytes / 4, per_row, uint64_t(experts) * rows / 8}, {tile_bytes, per_row * tile_bytes}, {tile_bytes / 4, 2, grouped_rows / 8}, false});
    };
    return run_grouped<true>(i, launch, a, out, accumulate, grouped, weights);
  }
  Arena scratch(a.scratch, a.scratch_bytes);
  uint16_t* h = scratch.take<uint16_t>(uint64_t(a.tokens) * a.top_k * a.intermediate);
  if (!scratch.fits()) return i.refuse(KL_WORKSPACE, "moe: scratch is too small.");
  DirectParams p = {};
  p.x = static_cast<const uint16_t*>(a.x), p.row_seq = a.row_seq, p.ids = a.expert_ids, p.weights = a.expert_weights;
  p.up = static_cast<const uint8_t*>(a.up_weight), p.up_bias = a.up_bias;
  p.down = static_cast<const uint8_t*>(a.down_weight), p.down_bias = a.down_bias, p.h = h, p.out = out;
  p.tokens = a.tokens, p.top_k = a.top_k, p.hidden = a.hidden, p.intermediate = a.intermediate;
  p.expert_begin = a.expert_begin, p.expert_end = a.expert_end, p.accumulate = accumulate, p.stream_f32 = a.stream_dtype == KL_F32;
  p.alpha = a.alpha, p.limit = a.limit;

  // One block a multiprocessor, its ring as deep as shared memory allows. Where that is little, sums are kept of fewer items, and h
  // is not staged, so that the ring has two stages.
  const uint32_t sm = i.device.multiprocessors, budget = i.block_shared() < 220 * 1024 ? i.block_shared() : 220 * 1024;
  const auto stages = [&](uint32_t rest, uint32_t stage) { return rest >= budget ? 0 : (budget - rest) / stage < 8 ? (budget - rest) / stage : 8u; };
  const auto exclusive = [&](uint32_t bytes) { return bytes < 115 * 1024 && i.sm90a() ? 115 * 1024 : bytes; };
  const uint32_t up_stage = 2 * (a.hidden / 64) * tile_bytes;
  const auto up_sums = [&] { return 2 * p.group * direct_warps * a.tokens * 16 * 4; };
  p.group = a.tokens <= 2 ? 12 : 6;
  while (p.group > 1 && stages(up_sums(), up_stage) < 2) p.group /= 2;
  p.stages = stages(up_sums(), up_stage);
  if (p.stages == 0) return i.refuse(KL_UNSUPPORTED, "moe: rows of this width do not fit the shared memory of this device.");
  if (kl_status s = launch(up_kernel, {sm}, direct_warps * 32 + 32, exclusive(p.stages * up_stage + up_sums()), p); s != KL_OK) return s;

  p.strips_per_block = ceil_div(a.hidden / 8, sm);
  if (p.strips_per_block > direct_most_strips) p.strips_per_block = direct_most_strips;
  const uint32_t h_bytes = a.tokens * a.top_k * a.intermediate * 2, down_stage = p.strips_per_block * (a.intermediate / 64) * tile_bytes;
  const uint32_t down_sums = direct_warps * direct_most_strips * a.tokens * 8 * 4;
  p.staged = h_bytes <= 48 * 1024 && stages(down_sums + h_bytes, down_stage) >= 2;
  const uint32_t rest = down_sums + (p.staged ? h_bytes : 0);
  p.stages = stages(rest, down_stage);
  if (p.stages == 0) return i.refuse(KL_UNSUPPORTED, "moe: rows of this width do not fit the shared memory of this device.");
  return launch(down_kernel, {ceil_div(a.hidden / 8, p.strips_per_block)}, direct_warps * 32 + 32, exclusive(p.stages * down_stage + rest), p);
}
kl_status moe(const Instance& i, const Launcher& launch, const kl_moe_args& a) { return run_moe(i, launch, a, a.out, false); }
kl_status moe_residual(const Instance& i, const Launcher& launch, const kl_moe_residual_args& a) {
  return run_moe(i, launch, a, a.stream, true);
}

kl_status tiles(const Instance& i, const Launcher& launch, const kl_mxfp4_tiles_args& a) {
  if (a.rows == 0 || a.rows % 8 != 0 || a.columns == 0 || a.columns % 32 != 0) return i.refuse(KL_INVALID, "mxfp4_tiles: a size is out of its limits.");
  if (!all_present(a.blocks, a.scales, a.dst)) return i.refuse(KL_INVALID, "mxfp4_tiles: a pointer is missing.");
  const uint32_t per_row = ceil_div(a.columns, 64);
  const uint64_t count = a.rows / 8 * per_row, blocks = (count + 7) / 8;
  return launch(tiles_kernel, {blocks < 8192 ? uint32_t(blocks) : 8192}, 256, 0, TilesParams{a.blocks, a.scales, a.dst, count, a.columns, per_row});
}
kl_status dequantize(const Instance& i, const Launcher& launch, const kl_mxfp4_dequantize_args& a) {
  if (a.rows == 0 || a.columns == 0 || a.columns % 32 != 0) return i.refuse(KL_INVALID, "mxfp4_dequantize: a size is out of its limits.");
  if (!all_present(a.blocks, a.scales, a.dst)) return i.refuse(KL_INVALID, "mxfp4_dequantize: a pointer is missing.");
  const uint64_t groups = a.rows * (a.columns / 32), blocks = (groups * 4 + 255) / 256;
  return launch(dequantize_kernel, {blocks < 8192 ? uint32_t(blocks) : 8192}, 256, 0, DequantizeParams{a.blocks, a.scales, a.dst, groups});
}

#define OPS(X)                                          \
  X(KL_OP_MOE, moe, moe)                                \
  X(KL_OP_MOE_RESIDUAL, moe_residual, moe_residual)     \
  X(KL_OP_MXFP4_TILES, mxfp4_tiles, tiles)              \
  X(KL_OP_MXFP4_DEQUANTIZE, mxfp4_dequantize, dequantize)
}  // namespace
KL_DEFINE_CUDA_LIBRARY(OPS)
