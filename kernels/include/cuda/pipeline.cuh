// A ring of stages in shared memory: the barriers that say which are full and which empty, and the copies that fill them.
//
// One warp feeds. On sm_90a one of its lanes asks the copy engine, which counts bytes on the stage's `full` barrier; elsewhere every
// lane copies its share and arrives there once its copies have landed.
#pragma once
#include "cuda/device.cuh"
#include "cuda/tile_map.h"

namespace kl {

constexpr uint32_t feed_arrivals = sm90a ? 1 : 32;  // on a full barrier, by the feeding warp
__device__ __forceinline__ void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

#if KL_SM90A

__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t phase) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n@done bra DONE;\nbra AGAIN;\nDONE:\n}"
      ::"r"(shared_address(barrier)), "r"(phase)
      : "memory");
}
// For weights that are read once: they may leave the second-level cache first.
__device__ __forceinline__ uint64_t evict_first() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// Bytes, a multiple of 16, from global to shared memory, completing on a barrier.
__device__ __forceinline__ void bulk_copy(void* to, const void* from, uint32_t bytes, uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void tma_load2(void* to, const TileMap* map, int x, int y, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(to)),
               "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void tma_load3(void* to, const TileMap* map, int x, int y, int z, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
          shared_address(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
      : "memory");
}
// The same box, only as far as the second-level cache.
__device__ __forceinline__ void tma_prefetch3(const TileMap* map, int x, int y, int z) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(map), "r"(x), "r"(y), "r"(z) : "memory");
}
__device__ __forceinline__ void prefetch_map(const TileMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
__device__ __forceinline__ void async_proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
__device__ __forceinline__ void feed_done(uint64_t*) {}
__device__ __forceinline__ void feed_end() {}

// Clusters: the barrier of all threads, and a store into a peer's shared memory.
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
// Split: a block may write into a peer only once that peer has arrived, that is, has begun.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void peer_store(float* mine, uint32_t rank, float v) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(mine)), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(v) : "memory");
}

#else

__device__ __forceinline__ void barrier_init_fence() {}
__device__ __forceinline__ void barrier_expect(uint64_t*, uint32_t) {}
__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* barrier, uint32_t phase) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n@done bra DONE;\nbra AGAIN;\nDONE:\n}"
      ::"r"(shared_address(barrier)), "r"(phase)
      : "memory");
}
// Every copy below is made by all lanes of the feeding warp. After those of one stage:
__device__ __forceinline__ void feed_done(uint64_t* full) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(full)) : "memory");
}
// Before the feeding warp ends.
__device__ __forceinline__ void feed_end() { asm volatile("cp.async.wait_all;" ::: "memory"); }

__device__ __forceinline__ uint64_t evict_first() { return 0; }
// Bytes, a multiple of 16.
__device__ __forceinline__ void bulk_copy(void* to, const void* from, uint32_t bytes, uint64_t*, uint64_t) {
  const uint32_t address = shared_address(to);
  for (uint32_t i = threadIdx.x % 32; i < bytes / 16; i += 32) cp_async16(address + i * 16, static_cast<const uint8_t*>(from) + i * 16);
}
// Rows of 64 bf16 from column x and row y on, swizzled over 128 bytes.
__device__ __forceinline__ void tma_load2(void* to, const TileMap* map, int x, int y, uint64_t*) {
  const PlainMap& m = *reinterpret_cast<const PlainMap*>(map);
  const uint32_t address = shared_address(to), piece = threadIdx.x % 8, column = uint32_t(x) / 8 + piece;
  for (uint32_t row = threadIdx.x % 32 / 8; row < m.box_y; row += 4) {
    const bool there = column < m.pieces && uint32_t(y) + row < m.size_y;
    const uint8_t* from = m.address + uint64_t(uint32_t(y) + row) * m.stride_y + column * 16;
    cp_async16(address + row * 128 + ((piece ^ (row & 7)) << 4), there ? from : m.address, there);
  }
}
// Whole rows of at most 32 pieces, from row y of plane z on, packed.
__device__ __forceinline__ void tma_load3(void* to, const TileMap* map, int, int y, int z, uint64_t*) {
  const PlainMap& m = *reinterpret_cast<const PlainMap*>(map);
  const uint32_t address = shared_address(to), piece = threadIdx.x % 32;
  if (piece >= m.pieces) return;
  for (uint32_t i = 0; i < m.box_y * m.box_z; ++i) {
    const uint32_t row = uint32_t(y) + i % m.box_y, plane = uint32_t(z) + i / m.box_y;
    const bool there = row < m.size_y && plane < m.size_z;
    const uint8_t* from = m.address + plane * m.stride_z + row * m.stride_y + piece * 16;
    cp_async16(address + (i * m.pieces + piece) * 16, there ? from : m.address, there);
  }
}
__device__ __forceinline__ void tma_prefetch3(const TileMap*, int, int, int) {}
__device__ __forceinline__ void prefetch_map(const TileMap*) {}
__device__ __forceinline__ void async_proxy_fence() {}
template <int N>
__device__ __forceinline__ void registers_grow() {}
template <int N>
__device__ __forceinline__ void registers_shrink() {}

#endif

// A consuming warp gives a stage back: one lane arrives for all, after they have met. (The race checker credits only the lane that
// arrives: for it, a build with KL_EVERY_LANE_ARRIVES lets all of them.)
#ifdef KL_EVERY_LANE_ARRIVES
constexpr uint32_t release_arrivals = 32;
#else
constexpr uint32_t release_arrivals = 1;
#endif
__device__ __forceinline__ void barrier_release(uint64_t* barrier, uint32_t lane) {
  __syncwarp();
  if (release_arrivals == 32 || lane == 0) barrier_arrive(barrier);
}

}  // namespace kl
