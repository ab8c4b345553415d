// FlashAttention's online softmax over pages of 64 keys, shared by prefill and decode.
#pragma once
#include <math.h>

#include "cpu/library.h"
#include "cpu/simd.h"

kl_status attn_prefill(const kl::Instance& instance, const kl_attn_prefill_args& a);
kl_status attn_decode(const kl::Instance& instance, const kl_attn_decode_args& a);

namespace fa {

constexpr int page = 64;        // keys of a page
constexpr int tile_queries = 48; // (row, head) pairs that read a page together

// Query vectors that read the keys of one kv head together, with their running softmax.
struct Tile {
  int count;
  uint64_t head_dim;
  float scale;
  const float* q[tile_queries];
  float* o[tile_queries];       // sum of p v, not yet divided
  int64_t first[tile_queries];  // absolute positions of the first key a query sees
  int64_t last[tile_queries];   // and of the last
  float most[tile_queries];     // largest logit so far
  float sum[tile_queries];      // sum of p so far

  void begin() {
    for (int i = 0; i < count; i++) {
      most[i] = -INFINITY;
      sum[i] = 0.0f;
      memset(o[i], 0, head_dim * sizeof(float));
    }
  }
  // Takes in the keys of one page that starts at absolute position `base`. k and v: [64][head_dim].
  void take(int64_t base, const float* k, const float* v);
};

// What prefill and decode check alike.
template <class Args>
kl_status check(const kl::Instance& instance, const Args& a) {
  if (a.dtype != KL_F32 || a.kv_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "attention: this variant has f32 activations and an f32 cache only.");
  }
  if (a.head_dim == 0 || a.head_dim % 8 != 0 || a.head_dim > 256) {
    return instance.refuse(KL_INVALID, "attention: head_dim must be a multiple of 8, from 8 to 256.");
  }
  if (a.kv_heads == 0 || a.heads == 0 || a.heads % a.kv_heads != 0 || a.heads > 65536) {
    return instance.refuse(KL_INVALID, "attention: heads must be a multiple of kv_heads, at most 65536.");
  }
  if (!kl::all_present(a.context, a.block_table, a.q, a.kv, a.sinks, a.out)) {
    return instance.refuse(KL_INVALID, "attention: a pointer is null.");
  }
  return KL_OK;
}

// Position of the first key that the query at `position` sees.
inline int64_t first_key(int64_t position, uint32_t window) {
  return window == 0 ? 0 : kl::larger<int64_t>(0, position - static_cast<int64_t>(window) + 1);
}

// Checks that the pages of keys [first, context) of sequence s are there.
template <class Args>
kl_status check_pages(const kl::Instance& instance, const Args& a, uint64_t s, int64_t first) {
  const int64_t context = a.context[s];
  if (context > a.max_context || kl::ceil_div(static_cast<uint64_t>(context), page) > a.block_table_stride) {
    return instance.refuse(KL_INVALID, "attention: a context is longer than max_context or than its block table.");
  }
  for (int64_t p = first / page; p <= (context - 1) / page; p++) {
    if (a.block_table[s * a.block_table_stride + static_cast<uint64_t>(p)] < 0) {
      return instance.refuse(KL_INVALID, "attention: a key in sight lies in a page that was freed.");
    }
  }
  return KL_OK;
}

// K (which = 0) or V (which = 1) of one kv head in the page that holds absolute position 64 p.
template <class Args>
const float* page_of(const Args& a, uint64_t s, uint64_t p, uint64_t which, uint64_t kv_head) {
  const uint64_t at = static_cast<uint64_t>(a.block_table[s * a.block_table_stride + p]);
  return static_cast<const float*>(a.kv) + ((at * 2 + which) * a.kv_heads + kv_head) * page * a.head_dim;
}

// out = o / (sum + e^sink), with both on the scale of the larger of the largest logit and the sink.
inline void finish(const float* o, float most, float sum, float sink, uint64_t head_dim, float* out) {
  const float top = kl::larger(most, sink);
  const float scale = kl::exp1(most - top);
  const __m256 factor = _mm256_set1_ps(scale / (sum * scale + kl::exp1(sink - top)));
  for (uint64_t i = 0; i < head_dim; i += 8) _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_loadu_ps(o + i), factor));
}

}  // namespace fa
