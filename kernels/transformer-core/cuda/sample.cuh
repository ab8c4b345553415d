// Sampling. Every block reduces one part of a row to (largest logit, its id, sum of exponentials); the last block of a row
// to arrive joins the parts in order, so the result does not depend on who was last, and draws when a temperature is set.
//
// Drawing follows the order of falling logits without sorting: the key at which a running count (top-k) or a running mass
// (top-p, and the drawn number itself) reaches its goal is found digit by digit from histograms. Mass is fixed point, so that
// no sum depends on the order of its terms.
#pragma once
#include "cuda/device.cuh"
#include "params.h"

namespace kl {

constexpr int sample_threads = 512;

__device__ __forceinline__ uint32_t ordered(float v) {
  const uint32_t bits = __float_as_uint(v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
// 24 bits of Philox4x32-10 (Salmon et al., SC11), keyed by the seed, at the step's counter.
__device__ __forceinline__ uint32_t philox24(uint64_t seed, uint64_t counter) {
  uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = 0, c3 = 0, k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xd2511f53u, c0), low0 = 0xd2511f53u * c0;
    const uint32_t high1 = __umulhi(0xcd9e8d57u, c2), low1 = 0xcd9e8d57u * c2;
    c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
    k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
  }
  return c0 >> 8;
}

struct Best {
  float value;
  uint32_t id;
};
__device__ __forceinline__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}
__device__ __forceinline__ Best block_best(Best v, Best* shared) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) {
    v = better(v, Best{__shfl_xor_sync(~0u, v.value, d), __shfl_xor_sync(~0u, v.id, d)});
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  v = shared[0];
  for (int w = 1; w < sample_threads / 32; ++w) v = better(v, shared[w]);
  return v;
}

struct Found {
  uint32_t key;   // where the running weight, by falling key, reaches the goal
  uint64_t left;  // what of the goal the keys above leave to those equal to it; at least 1
};
template <class Weight>
__device__ Found reach(const float* logits, uint32_t vocab, uint64_t goal, const Weight& weight, unsigned long long* bins) {
  __shared__ uint32_t digit_found;
  __shared__ unsigned long long left;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    if (threadIdx.x < 256) bins[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < vocab; i += sample_threads) {
      const uint32_t key = ordered(logits[i]);
      if (shift == 24 || key >> (shift + 8) == prefix) {
        const unsigned long long w = weight(logits[i]);
        if (w != 0) atomicAdd(&bins[key >> shift & 255], w);
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long sum = 0;
      uint32_t digit = 255, last_filled = 255;
      for (;; --digit) {
        if (bins[digit] != 0) {
          last_filled = digit;
          if (sum + bins[digit] >= goal) break;
          sum += bins[digit];
        }
        if (digit == 0) {  // the goal is beyond the whole: the last key that weighs anything
          digit = last_filled;
          sum -= bins[digit];
          break;
        }
      }
      digit_found = digit;
      left = goal > sum ? goal - sum : 1;
    }
    __syncthreads();
    prefix = prefix << 8 | digit_found;
    goal = left;
  }
  return {prefix, goal};
}
// Sum over the row of what a function gives per logit.
template <class Value>
__device__ uint64_t block_total(const float* logits, uint32_t vocab, const Value& value, unsigned long long* bins) {
  unsigned long long sum = 0;
  __syncthreads();
  if (threadIdx.x == 0) bins[0] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < vocab; i += sample_threads) sum += value(logits[i]);
  if (sum != 0) atomicAdd(&bins[0], sum);
  __syncthreads();
  return bins[0];
}
__device__ __forceinline__ float of_key(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ __forceinline__ void sample_row(const SampleParams& p) {
  __shared__ Best bests[sample_threads / 32];
  __shared__ float sums[sample_threads / 32];
  __shared__ unsigned long long bins[256];
  __shared__ uint32_t last;
  pdl_launch();
  pdl_wait();
  const uint32_t row = blockIdx.y, split = blockIdx.x;
  if (p.sample_rows[row] < 0) return;
  const float* logits = p.logits + uint64_t(row) * p.vocab;
  const uint32_t share = (p.vocab + p.splits - 1) / p.splits;
  const uint32_t begin = split * share, end = min(begin + share, p.vocab);

  Best best = {-INFINITY, 0xffffffffu};
  for (uint32_t i = begin + threadIdx.x; i < end; i += sample_threads) best = better(best, Best{logits[i], i});
  best = block_best(best, bests);
  float sum = 0;
  for (uint32_t i = begin + threadIdx.x; i < end; i += sample_threads) sum += expf(logits[i] - best.value);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  float* mine = p.partial + (uint64_t(row) * p.splits) * 4;
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < sample_threads / 32; ++w) sum += sums[w];
    mine[split * 4] = best.value;
    mine[split * 4 + 1] = __uint_as_float(best.id);
    mine[split * 4 + 2] = sum;
    __threadfence();
    last = atomicAdd(p.arrived + row, 1) == p.splits - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) p.arrived[row] = 0;

  best = {-INFINITY, 0xffffffffu};
  for (uint32_t s = 0; s < p.splits; ++s) {
    best = better(best, Best{__ldcg(mine + s * 4), __float_as_uint(__ldcg(mine + s * 4 + 1))});
  }
  float total = 0;
  for (uint32_t s = 0; s < p.splits; ++s) total += __ldcg(mine + s * 4 + 2) * expf(__ldcg(mine + s * 4) - best.value);
  const float log_total = best.value + logf(total);

  const float temperature = p.temperature[row];
  uint32_t token = best.id;
  if (temperature > 0) {
    const float inverse = 1.0f / temperature;
    const auto mass = [&](float v) { return uint64_t(expf((v - best.value) * inverse) * 1099511627776.0f); };  // 2^40: 1
    const uint64_t all = block_total(logits, p.vocab, mass, bins);
    uint64_t candidates = all;
    const int k = p.top_k[row];
    if (k > 0 && uint32_t(k) < p.vocab) {
      const Found cut = reach(logits, p.vocab, k, [](float) { return 1ull; }, bins);
      candidates = block_total(logits, p.vocab, [&](float v) { return ordered(v) > cut.key ? mass(v) : 0ull; }, bins) +
                   cut.left * mass(of_key(cut.key));
    }
    const float top_p = p.top_p[row];
    if (top_p < 1) {
      const uint64_t goal = max(uint64_t(ceil(double(all) * double(top_p))), uint64_t(1));
      if (goal < candidates) {
        const Found cut = reach(logits, p.vocab, goal, mass, bins);
        const uint64_t each = max(mass(of_key(cut.key)), uint64_t(1));
        candidates = min(candidates, goal - cut.left + (cut.left + each - 1) / each * each);
      }
    }
    const double u = double(philox24(p.seeds[row], p.counters[row])) * (1.0 / 16777216.0);
    const Found drawn = reach(logits, p.vocab, uint64_t(u * double(candidates)) + 1, mass, bins);
    uint64_t skip = (drawn.left - 1) / max(mass(of_key(drawn.key)), uint64_t(1));
    token = 0xffffffffu;  // the first id with that key, then as many further ones as the drawn mass skips
    do {
      uint32_t lowest = 0xffffffffu;
      for (uint32_t i = threadIdx.x; i < p.vocab && lowest == 0xffffffffu; i += sample_threads) {
        if (ordered(logits[i]) == drawn.key && (token == 0xffffffffu || i > token)) lowest = i;
      }
      const uint32_t next = block_best(Best{lowest == 0xffffffffu ? -INFINITY : 0.0f, lowest}, bests).id;
      if (next == 0xffffffffu) break;
      token = next;
    } while (skip-- > 0);
  }
  if (threadIdx.x == 0) {
    p.token_ids[row] = int32_t(token);
    p.logprobs[row] = logits[token] - log_total;
    if (p.next_token_ids != nullptr) p.next_token_ids[row] = int32_t(token);
  }
}

}  // namespace kl
