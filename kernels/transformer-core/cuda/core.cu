// Device code of transformer-core for mode bf16: embedding, projections, router, residual, sampling, moving of weights.
#include "gemm.cuh"
#include "router_warps.cuh"
#include "sample.cuh"

using namespace kl;

extern "C" __global__ void __launch_bounds__(128) embed(const __grid_constant__ EmbedParams p) {
  pdl_launch();
  pdl_wait();
  const uint32_t token = blockIdx.x;
  if (p.row_seq[token] < 0) return;
  const uint32_t id = min(uint32_t(p.token_ids[token]), p.vocab - 1);
  for (uint32_t i = threadIdx.x; i < p.hidden / 8; i += blockDim.x) {
    const uint4 v = *reinterpret_cast<const uint4*>(p.weight + uint64_t(id) * p.hidden + i * 8);
    const uint64_t at = uint64_t(token) * p.hidden + i * 8;
    if (p.stream_f32) {
      float4* to = reinterpret_cast<float4*>(static_cast<float*>(p.out) + at);
      to[0] = make_float4(low(v.x), high(v.x), low(v.y), high(v.y));
      to[1] = make_float4(low(v.z), high(v.z), low(v.w), high(v.w));
    } else {
      *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p.out) + at) = v;
    }
  }
}

#define GEMV(name, kind, chunks, normed)                                                                          \
  extern "C" __global__ void __launch_bounds__(gemv_threads, 2) name(const __grid_constant__ GemvParams p) { \
    gemv<kind, chunks, normed>(p);                                                                                \
  }
GEMV(gemv_qkv_5, Output::qkv, 5, false)
GEMV(gemv_norm_qkv_5, Output::qkv, 5, true)
GEMV(gemv_act_5, Output::act, 5, false)
GEMV(gemv_act_6, Output::act, 6, false)
GEMV(gemv_residual_5, Output::residual, 5, false)
GEMV(gemv_residual_6, Output::residual, 6, false)
GEMV(gemv_logits_5, Output::logits, 5, false)

#define GEMM(name, kind, tokens, features, stages, blocks)                                                                          \
  extern "C" __global__ void __launch_bounds__(tokens * 2 + 32, blocks) name(const __grid_constant__ GemmParams p) { \
    gemm<kind, tokens, features, stages>(p);                                                                     \
  }
GEMM(gemm_qkv_64, Output::qkv, 64, 64, 6, 2)
GEMM(gemm_qkv_128, Output::qkv, 128, 128, 3, 2)
GEMM(gemm_act_64, Output::act, 64, 32, 8, 2)
GEMM(gemm_act_128, Output::act, 128, 128, 3, 2)
GEMM(gemm_residual_64, Output::residual, 64, 32, 8, 2)
GEMM(gemm_residual_128, Output::residual, 128, 128, 3, 2)
GEMM(gemm_logits_64, Output::logits, 64, 128, 4, 2)

#if KL_SM90A
extern "C" __global__ void __launch_bounds__(256, 2) router(const __grid_constant__ RouterParams p) { route(p); }
extern "C" __global__ void __launch_bounds__(256, 2) router_many(const __grid_constant__ RouterParams p) { route_many(p); }
#else
extern "C" __global__ void __launch_bounds__(256, 2) router(const __grid_constant__ RouterParams p) { route_warps(p); }
#endif

extern "C" __global__ void __launch_bounds__(128) residual(const __grid_constant__ ResidualParams p) {
  pdl_launch();
  pdl_wait();
  const uint32_t token = blockIdx.x;
  if (p.row_seq[token] < 0) return;
  for (uint32_t i = threadIdx.x; i < p.hidden; i += blockDim.x) {
    const uint64_t at = uint64_t(token) * p.hidden + i;
    store_stream(p.stream, at, load_stream(p.stream, at, p.stream_f32) + to_float(p.x[at]), p.stream_f32);
  }
}

extern "C" __global__ void __launch_bounds__(sample_threads) sample(const __grid_constant__ SampleParams p) { sample_row(p); }

extern "C" __global__ void __launch_bounds__(256) copy_rows(const __grid_constant__ CopyParams p) {
  pdl_launch();
  pdl_wait();
  const bool wide = ((p.row_bytes | p.src_stride | p.dst_stride | reinterpret_cast<uint64_t>(p.src) |
                      reinterpret_cast<uint64_t>(p.dst)) & 15) == 0;
  for (uint64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const uint8_t* from = p.src + row * p.src_stride;
    uint8_t* to = p.dst + row * p.dst_stride;
    if (wide) {
      for (uint64_t i = threadIdx.x; i < p.row_bytes / 16; i += blockDim.x) {
        reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
      }
    } else {
      for (uint64_t i = threadIdx.x; i < p.row_bytes; i += blockDim.x) to[i] = from[i];
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) transpose_experts(const __grid_constant__ TransposeParams p) {
  __shared__ uint16_t tile[32][33];
  pdl_launch();
  pdl_wait();
  const uint64_t matrix = uint64_t(blockIdx.z) * p.rows * p.columns;
  const uint32_t x = threadIdx.x % 32, y = threadIdx.x / 32;
  for (uint32_t j = y; j < 32; j += 8) {
    const uint32_t row = blockIdx.y * 32 + j, column = blockIdx.x * 32 + x;
    if (row < p.rows && column < p.columns) tile[j][x] = p.src[matrix + uint64_t(row) * p.columns + column];
  }
  __syncthreads();
  for (uint32_t j = y; j < 32; j += 8) {
    const uint32_t row = blockIdx.y * 32 + x, column = blockIdx.x * 32 + j;
    if (row < p.rows && column < p.columns) p.dst[matrix + uint64_t(column) * p.rows + row] = tile[x][j];
  }
}
