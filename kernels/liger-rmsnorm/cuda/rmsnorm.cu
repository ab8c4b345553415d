// RMSNorm as gpt-oss needs it: everything in f32, the product with the weight included, one rounding at the end.
// One block a row; the row stays in registers between the sum of squares and the product.
#include "cuda/device.cuh"
#include "params.h"

using namespace kl;

constexpr int threads = 256, most_chunks = 4;  // 8 values a chunk: rows of up to 8,192

extern "C" __global__ void __launch_bounds__(threads) rmsnorm(const __grid_constant__ NormParams p) {
  __shared__ float sums[threads / 32];
  pdl_launch();
  uint4 weight[most_chunks];
  const uint32_t chunks = p.hidden / 8;
#pragma unroll
  for (int j = 0; j < most_chunks; ++j) {
    const uint32_t c = threadIdx.x + j * threads;
    if (c < chunks) weight[j] = reinterpret_cast<const uint4*>(p.weight)[c];
  }
  pdl_wait();
  if (p.row_seq[blockIdx.x] < 0) return;
  const uint64_t row = uint64_t(blockIdx.x) * p.hidden;
  float v[most_chunks][8];
  float sum = 0;
#pragma unroll
  for (int j = 0; j < most_chunks; ++j) {
    const uint32_t c = threadIdx.x + j * threads;
    if (c < chunks) {
      load_stream8(p.x, row + c * 8, p.stream_f32, v[j]);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum += v[j][k] * v[j][k];
    }
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) sum += sums[w];
  const float factor = rsqrtf(sum / float(p.hidden) + p.eps);
#pragma unroll
  for (int j = 0; j < most_chunks; ++j) {
    const uint32_t c = threadIdx.x + j * threads;
    if (c < chunks) {
      float w[8];
      w[0] = low(weight[j].x), w[1] = high(weight[j].x), w[2] = low(weight[j].y), w[3] = high(weight[j].y);
      w[4] = low(weight[j].z), w[5] = high(weight[j].z), w[6] = low(weight[j].w), w[7] = high(weight[j].w);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[j][k] = v[j][k] * factor * w[k];
      *reinterpret_cast<uint4*>(p.out + row + c * 8) = pack8(v[j]);
    }
  }
}
