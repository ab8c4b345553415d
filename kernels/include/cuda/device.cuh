// What the device code of every CUDA package shares: bf16 and warp helpers, instructions by name.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

// sm_90a has warpgroup products, a copy engine and clusters. On every other architecture (and with KL_PORTABLE, so that this can be
// run on an H100 too) the same kernels multiply by warps and copy by the lanes of the feeding warp.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(KL_PORTABLE)
#define KL_SM90A 1
#else
#define KL_SM90A 0
#endif

namespace kl {

constexpr bool sm90a = KL_SM90A;

using bf16 = __nv_bfloat16;
using bf16x2 = __nv_bfloat162;

// Programmatic dependent launch. After `wait` everything that earlier launches wrote is visible; before it only constant
// weights may be read. Both do nothing where the launch carries no such attribute.
__device__ __forceinline__ void pdl_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void pdl_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ uint32_t pack(float a, float b) {
  const bf16x2 v = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ float to_float(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }
__device__ __forceinline__ uint16_t to_bf16(float v) { return __bfloat16_as_ushort(__float2bfloat16_rn(v)); }

// The residual stream is f32 or bf16; `f32` says which.
__device__ __forceinline__ float load_stream(const void* base, uint64_t i, bool f32) {
  return f32 ? static_cast<const float*>(base)[i] : to_float(static_cast<const uint16_t*>(base)[i]);
}
__device__ __forceinline__ void store_stream(void* base, uint64_t i, float v, bool f32) {
  if (f32) {
    static_cast<float*>(base)[i] = v;
  } else {
    static_cast<uint16_t*>(base)[i] = to_bf16(v);
  }
}
__device__ __forceinline__ void unpack8(uint4 a, float (&v)[8]) {
  v[0] = low(a.x), v[1] = high(a.x), v[2] = low(a.y), v[3] = high(a.y);
  v[4] = low(a.z), v[5] = high(a.z), v[6] = low(a.w), v[7] = high(a.w);
}
// Eight values from a 16-byte boundary (32 for f32).
__device__ __forceinline__ void load_stream8(const void* base, uint64_t i, bool f32, float (&v)[8]) {
  if (f32) {
    const float4* p = reinterpret_cast<const float4*>(static_cast<const float*>(base) + i);
    const float4 a = p[0], b = p[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  } else {
    unpack8(*reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(base) + i), v);
  }
}
__device__ __forceinline__ void load_bf16x8(const uint16_t* p, float (&v)[8]) { load_stream8(p, 0, false, v); }
__device__ __forceinline__ uint4 pack8(const float (&v)[8]) {
  return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
  return v;
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// D (16x8, f32) += A (16x16) B (16x8). Lane (g = lane / 4, t = lane % 4) holds A rows g, g + 8 and columns 2t, 2t + 1, 2t + 8,
// 2t + 9 as a0 (g, low k), a1 (g + 8, low), a2 (g, high), a3 (g + 8, high); B column g as b0, b1; D (g, 2t .. 2t + 1), (g + 8, ..).
__device__ __forceinline__ void mma16816(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ __forceinline__ void ldmatrix4_trans(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// Of `threads` threads of a block.
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void cp_async16(uint32_t to, const void* from, bool there = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Past the first-level cache: for what another launch, still running, may have written.
__device__ __forceinline__ int load_fresh(const int* p) {
  int v;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ float load_fresh(const float* p) {
  float v;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}

}  // namespace kl
