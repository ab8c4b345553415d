// Device code of mxfp4 for mode bf16.
#include "direct.cuh"
#include "prepare.cuh"

using namespace kl;

extern "C" __global__ void __launch_bounds__(direct_threads, 1) moe_direct_up(const __grid_constant__ DirectParams p) {
  direct_up(p);
}
extern "C" __global__ void __launch_bounds__(direct_threads, 1) moe_direct_down(const __grid_constant__ DirectParams p) {
  direct_down(p);
}

#define GROUPED(width)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), grouped_blocks(true, width)) moe_up_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, true, true>(p);                                                                                     \
  }                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(grouped_threads(width), grouped_blocks(true, width)) moe_down_##width(const __grid_constant__ GroupedParams p) { \
    grouped_product<width, true, false>(p);                                                                                    \
  }
GROUPED(16)
GROUPED(32)
GROUPED(64)
GROUPED(128)

extern "C" __global__ void __launch_bounds__(1024) moe_sort(const __grid_constant__ SortParams p) { sort_pairs(p); }
extern "C" __global__ void __launch_bounds__(arranging_threads) moe_arrange(const __grid_constant__ ArrangeParams p) { arrange_pairs(p); }
extern "C" __global__ void __launch_bounds__(384) moe_permute(const __grid_constant__ PermuteParams p) { permute_rows(p); }
extern "C" __global__ void __launch_bounds__(384) moe_combine(const __grid_constant__ CombineParams p) { combine_rows(p); }

extern "C" __global__ void __launch_bounds__(256) mxfp4_tiles(const __grid_constant__ TilesParams p) {
  pdl_launch();
  pdl_wait();
  for (uint64_t tile = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32; tile < p.tiles; tile += uint64_t(gridDim.x) * 8) {
    write_tile(p, tile);
  }
}

extern "C" __global__ void __launch_bounds__(256) mxfp4_dequantize(const __grid_constant__ DequantizeParams p) {
  pdl_launch();
  pdl_wait();
  for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < p.groups * 4; i += uint64_t(gridDim.x) * blockDim.x) {
    const uint32_t codes = reinterpret_cast<const uint32_t*>(p.blocks)[i];
    const float scale = exp2f(float(int(p.scales[i / 4]) - 127 - 1));
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const uint32_t code = codes >> (4 * k) & 15, e = code >> 1 & 3, m = code & 1;
      const float twice = e == 0 ? float(m) : float((2 + m) << (e - 1));  // 0, 1, 2, 3, 4, 6, 8, 12
      v[k] = (code & 8 ? -twice : twice) * scale;
    }
    reinterpret_cast<uint4*>(p.dst)[i] = pack8(v);
  }
}
