// Device code of megablocks-moe for mode bf16.
#include "cuda/grouped.cuh"

using namespace kl;

#define GROUPED(width, blocks)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), blocks) moe_up_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, false, true>(p);                                                                                     \
  }                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), blocks) moe_down_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, false, false>(p);                                                                                    \
  }
GROUPED(16, 2)
GROUPED(32, 2)
GROUPED(64, 1)
GROUPED(128, 1)

extern "C" __global__ void __launch_bounds__(1024) moe_sort(const __grid_constant__ SortParams p) { sort_pairs(p); }
extern "C" __global__ void __launch_bounds__(128) moe_permute(const __grid_constant__ PermuteParams p) { permute_rows(p); }
extern "C" __global__ void __launch_bounds__(192) moe_combine(const __grid_constant__ CombineParams p) { combine_rows(p); }
