// megablocks-moe for CUDA, mode bf16: what each op launches.
#include "cuda/grouped_host.h"

KL_IMAGE("megablocks-moe.cubin")

namespace {
using namespace kl;

constexpr uint32_t block_shared = 224 * 1024;
enum Kernel : uint32_t { sort_kernel, permute_kernel, arrange_kernel, up_16, up_32, up_64, up_128, down_16, down_32, down_64, down_128, combine_kernel };
constexpr KernelInfo kernels[] = {
    {"moe_sort", 0}, {"moe_permute", 0}, {"moe_arrange", 0},
    {"moe_up_16", block_shared}, {"moe_up_32", block_shared}, {"moe_up_64", block_shared}, {"moe_up_128", block_shared},
    {"moe_down_16", block_shared}, {"moe_down_32", block_shared}, {"moe_down_64", block_shared}, {"moe_down_128", block_shared},
    {"moe_combine", 0},
};
constexpr GroupedKernels grouped = {sort_kernel, permute_kernel, arrange_kernel, {up_16, up_32, up_64, up_128}, {down_16, down_32, down_64, down_128}, combine_kernel};

template <class Args>
kl_status run_moe(const Instance& i, const Launcher& launch, const Args& a, void* out, bool accumulate) {
  if (kl_status s = check_moe(i, a, out, KL_LAYOUT_BF16_ROWS); s != KL_OK) return s;
  const auto weights = [&](TileMap& map, const void* weight, uint32_t experts, uint32_t rows, uint32_t depth) {
    return matrix_map(i, map, weight, uint64_t(experts) * rows, depth, grouped_rows);
  };
  return run_grouped<false>(i, launch, a, out, accumulate, grouped, weights);
}
kl_status moe(const Instance& i, const Launcher& launch, const kl_moe_args& a) { return run_moe(i, launch, a, a.out, false); }
kl_status moe_residual(const Instance& i, const Launcher& launch, const kl_moe_residual_args& a) {
  return run_moe(i, launch, a, a.stream, true);
}

#define OPS(X) X(KL_OP_MOE, moe, moe) X(KL_OP_MOE_RESIDUAL, moe_residual, moe_residual)
}  // namespace
KL_DEFINE_CUDA_LIBRARY(OPS)
