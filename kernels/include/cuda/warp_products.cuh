// The products of wgmma.cuh where there are no warpgroup products: each warp multiplies its own 16 rows, at once.
#pragma once
#include "cuda/pipeline.cuh"

namespace kl {

__device__ __forceinline__ void wgmma_fence() {}
__device__ __forceinline__ void wgmma_commit() {}
template <int N>
__device__ __forceinline__ void wgmma_wait() {}
template <int N>
__device__ __forceinline__ void wgmma_settle(float (&)[N]) {}

// The address in units of 16 bytes, so that offsets are those of a descriptor.
__device__ __forceinline__ uint64_t tile_descriptor(const void* tile) { return shared_address(tile) >> 4; }
// The same, 16 columns further for each step.
__device__ __forceinline__ uint64_t columns_on(uint64_t descriptor, uint32_t steps) { return descriptor + 2 * steps; }

// The byte of an unswizzled address: the row (bits 7 to 9) moves the piece (bits 4 to 6).
__device__ __forceinline__ uint32_t swizzled_address(uint32_t address) { return address ^ (address >> 3 & 0x70); }

// d += a b, b's 8-column blocks two at a time. transposed: b's rows are the 16 k, its columns contiguous.
template <int N, bool transposed>
__device__ __forceinline__ void warp_product(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b) {
  constexpr int blocks = N / 8;
  const uint32_t start = uint32_t(b) << 4, lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < blocks; j += 2) {
    uint32_t v[4];
    if constexpr (transposed) {
      ldmatrix4_trans(v, swizzled_address(start + lane % 16 * 128 + (j + lane / 16) * 16));
    } else {
      const uint32_t block = j + 1 < blocks ? j + lane / 16 : j;  // a last block alone is read twice
      ldmatrix4(v, swizzled_address(start + (block * 8 + lane % 8) * 128 + lane / 8 % 2 * 16));
    }
    mma16816(reinterpret_cast<float(&)[4]>(d[j * 4]), a0, a1, a2, a3, v[0], v[1]);
    if (j + 1 < blocks) mma16816(reinterpret_cast<float(&)[4]>(d[j * 4 + 4]), a0, a1, a2, a3, v[2], v[3]);
  }
}

template <int N>
struct Wgmma {
  static __device__ __forceinline__ void ss(float (&d)[N / 2], uint64_t a, uint64_t b) {
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane % 16;
    uint32_t v[4];
    ldmatrix4(v, swizzled_address((uint32_t(a) << 4) + row * 128 + lane / 16 * 16));
    warp_product<N, false>(d, v[0], v[1], v[2], v[3], b);
  }
  static __device__ __forceinline__ void rs(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b) {
    warp_product<N, false>(d, a0, a1, a2, a3, b);
  }
};

__device__ __forceinline__ void wgmma_rs_transposed64(float (&d)[32], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b) {
  warp_product<64, true>(d, a0, a1, a2, a3, b);
}

}  // namespace kl
