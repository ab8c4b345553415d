// Attention of many query rows over the paged cache, by warpgroup products.
//
// A block serves one kv head and 128 rows: every query head of that kv head for 128 / group tokens of one sequence, so that keys and
// values are read once for the whole group and a window of 128 keys costs three pages. Two warpgroups of 64 rows share a ring of
// pages that one of them fills; probabilities are operands in registers. (Queries are not: ptxas 13.0 reuses the registers of an
// operand that a loop's wgmma reads again and again.) The sink joins at the end.
#pragma once
#include "cuda/wgmma.cuh"
#include "decode.cuh"

namespace kl {

constexpr int prefill_threads = 256, prefill_stages = 4, prefill_shared = (prefill_stages * 2 + 2) * page_bytes + 1024;

__device__ __forceinline__ void attend_prefill(const AttentionParams& p, const TileMap* map) {
  extern __shared__ __align__(128) uint8_t unaligned[];
  uint8_t* shared = unaligned + (-shared_address(unaligned) & 1023);
  __shared__ uint64_t full[prefill_stages], empty[prefill_stages];
  __shared__ int found[3];  // sequence, first row of this block's tile in it
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint32_t group = p.heads / p.kv_heads, tile_tokens = 128 / group, kv_head = blockIdx.y;
  if (threadIdx.x == 0) {
    for (int s = 0; s < prefill_stages; ++s) barrier_init(full + s, feed_arrivals), barrier_init(empty + s, 8 * release_arrivals);
    barrier_init_fence();
    prefetch_map(map);
  }
  pdl_launch();
  pdl_wait();
  if (warp == 0) {  // which sequence: tiles are counted through the sequences, the last ones (most keys) start first
    const int tile = int(gridDim.x - 1 - blockIdx.x);
    if (lane == 0) found[0] = -1;
    __syncwarp();
    int before = 0;
    for (uint32_t base = 0; base < p.seqs; base += 32) {
      const uint32_t s = base + lane;
      const int queries = s < p.seqs && p.context[s] > 0 ? p.query_start[s + 1] - p.query_start[s] : 0;
      const int tiles = (queries + int(tile_tokens) - 1) / int(tile_tokens);
      int sum = tiles;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const int other = __shfl_up_sync(~0u, sum, d);
        if (lane >= uint32_t(d)) sum += other;
      }
      if (tile >= before + sum - tiles && tile < before + sum) found[0] = int(s), found[1] = (tile - before - sum + tiles) * int(tile_tokens);
      before += __shfl_sync(~0u, sum, 31);
    }
  }
  __syncthreads();
  const int seq = found[0];
  if (seq < 0) return;
  const int first = found[1], row0 = p.query_start[seq], queries = p.query_start[seq + 1] - row0;
  const int context = p.context[seq], offset = context - queries;  // position of the sequence's first row
  const int last = min(first + int(tile_tokens), queries) - 1;
  const int window = p.window == 0 ? 0x3fffffff : int(p.window);
  const int begin = max(0, offset + first + 1 - window) / 64, end = (offset + last) / 64 + 1;

  const bool feeder = sm90a ? threadIdx.x == 0 : warp == 0;
  const auto fetch = [&](int page_index) {
    const int s = (page_index - begin) % prefill_stages;
    const int page = max(p.block_table[uint64_t(seq) * p.block_table_stride + page_index], 0);
    const int row = (page * 2 * int(p.kv_heads) + int(kv_head)) * 64;
    barrier_expect(full + s, 2 * page_bytes);
    tma_load2(shared + s * 2 * page_bytes, map, 0, row, full + s);
    tma_load2(shared + s * 2 * page_bytes + page_bytes, map, 0, row + int(p.kv_heads) * 64, full + s);
    feed_done(full + s);
  };
  if (feeder) {
    for (int i = 0; i < prefill_stages - 1 && begin + i < end; ++i) fetch(begin + i);
  }

  uint8_t* queries_tile = shared + prefill_stages * 2 * page_bytes;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t c = threadIdx.x + i * prefill_threads, row = c / 8, token = first + row / group;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (int(token) < queries) {
      v = *reinterpret_cast<const uint4*>(p.q + (uint64_t(row0 + int(token)) * p.heads + kv_head * group + row % group) * 64 + c % 8 * 8);
    }
    *reinterpret_cast<uint4*>(queries_tile + swizzled(row, c % 8)) = v;
  }
  async_proxy_fence();
  __syncthreads();
  const uint64_t query_tile = tile_descriptor(queries_tile + warp / 4 * page_bytes);

  // This lane's two rows: token and head.
  int position[2];
  uint16_t* out_row[2];
  uint32_t head[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t row = warp * 16 + r * 8 + g, token = first + row / group;
    head[r] = kv_head * group + row % group;
    const bool there = int(token) < queries;
    position[r] = there ? offset + int(token) : -1;
    const uint64_t at = (uint64_t(row0 + (there ? int(token) : 0)) * p.heads + head[r]) * 64;
    out_row[r] = p.out + at;
  }
  const float scale = p.scale * log2e;
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {}, out[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) out[i] = 0;

  for (int page = begin; page < end; ++page) {
    const int i = page - begin, s = i % prefill_stages;
    uint8_t* keys = shared + s * 2 * page_bytes;
    barrier_wait(full + s, (i / prefill_stages) & 1);
    const int there = context - page * 64;
    if (there < 64) {  // values past the context may be anything, even NaN; both warpgroups write the same zeros
      for (int c = there * 8 + int(threadIdx.x % 128); c < 512; c += 128) reinterpret_cast<uint4*>(keys + page_bytes)[c] = make_uint4(0, 0, 0, 0);
      async_proxy_fence();
      named_barrier(1 + warp / 4, 128);
    }
    float logits[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) logits[k] = 0;
    const uint64_t key_tile = tile_descriptor(keys), value_tile = tile_descriptor(keys + page_bytes);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) Wgmma<64>::ss(logits, query_tile + 2 * k, key_tile + 2 * k);
    wgmma_commit();
    if (feeder && page + prefill_stages - 1 < end) {
      if (i > 0) barrier_wait(empty + (i - 1) % prefill_stages, ((i - 1) / prefill_stages) & 1);
      fetch(page + prefill_stages - 1);
    }
    __syncwarp();
    wgmma_wait<0>();
    wgmma_settle(logits);

    const bool cut = page * 64 + 63 > offset + first || page * 64 <= offset + last - window;
    float keep[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = largest[r];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float& v = logits[j * 4 + r * 2 + k];
          v *= scale;
          if (cut) {
            const int key = page * 64 + j * 8 + int(t) * 2 + k;
            if (key > position[r] || key <= position[r] - window) v = -INFINITY;
          }
          most = fmaxf(most, v);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      const float base = most == -INFINITY ? 0 : most;
      keep[r] = exp2f(largest[r] - base);
      largest[r] = most;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float& v = logits[j * 4 + r * 2 + k];
          v = exp2f(v - base);
          sum += v;
        }
      }
      total[r] = total[r] * keep[r] + sum;
    }
    uint32_t probability[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      probability[k][0] = pack(logits[k * 8], logits[k * 8 + 1]), probability[k][1] = pack(logits[k * 8 + 2], logits[k * 8 + 3]);
      probability[k][2] = pack(logits[k * 8 + 4], logits[k * 8 + 5]), probability[k][3] = pack(logits[k * 8 + 6], logits[k * 8 + 7]);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      out[j * 4] *= keep[0], out[j * 4 + 1] *= keep[0], out[j * 4 + 2] *= keep[1], out[j * 4 + 3] *= keep[1];
    }
    wgmma_settle(out);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      wgmma_rs_transposed64(out, probability[k][0], probability[k][1], probability[k][2], probability[k][3], value_tile + 128 * k);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_settle(out);
    barrier_release(empty + s, lane);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    total[r] += __shfl_xor_sync(~0u, total[r], 1);
    total[r] += __shfl_xor_sync(~0u, total[r], 2);
    if (position[r] < 0) continue;
    const float sink = to_float(p.sinks[head[r]]) * log2e;
    const float most = fmaxf(largest[r], sink), factor = exp2f(largest[r] - most);
    const float inverse = factor / (total[r] * factor + exp2f(sink - most));
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      *reinterpret_cast<uint32_t*>(out_row[r] + j * 8 + t * 2) = pack(out[j * 4 + r * 2] * inverse, out[j * 4 + r * 2 + 1] * inverse);
    }
  }
}

}  // namespace kl
