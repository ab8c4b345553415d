// Device code of megablocks-moe for mode bf16.
#include "cuda/grouped.cuh"

using namespace kl;

#define GROUPED(width)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), grouped_blocks(false, width)) moe_up_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, false, true>(p);                                                                                     \
  }                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), grouped_blocks(false, width)) moe_down_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, false, false>(p);                                                                                    \
  }
GROUPED(16)
GROUPED(32)
GROUPED(64)
GROUPED(128)

extern "C" __global__ void __launch_bounds__(1024) moe_sort(const __grid_constant__ SortParams p) { sort_pairs(p); }
extern "C" __global__ void __launch_bounds__(arranging_threads) moe_arrange(const __grid_constant__ ArrangeParams p) { arrange_pairs(p); }
extern "C" __global__ void __launch_bounds__(384) moe_permute(const __grid_constant__ PermuteParams p) { permute_rows(p); }
extern "C" __global__ void __launch_bounds__(384) moe_combine(const __grid_constant__ CombineParams p) { combine_rows(p); }
