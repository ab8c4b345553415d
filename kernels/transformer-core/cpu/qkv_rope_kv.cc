// q, k, v = x W^T + b; q and k rotated (half-split); k and v into pages of 64 positions,
// [page][K|V][kv_head][64][head_dim].
//
// The product writes every value where it belongs; a second loop rotates q and the new keys in place, one cosine and
// sine per position and frequency for all heads.
#include <math.h>

#include "core.h"

kl_status qkv_rope_kv(const kl::Instance& instance, const kl_qkv_rope_kv_args& a) {
  if (a.dtype != KL_F32 || a.kv_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "qkv_rope_kv: this variant has f32 activations and an f32 cache only.");
  }
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "qkv_rope_kv: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (a.head_dim == 0 || a.head_dim % 8 != 0 || a.head_dim > 256) {
    return instance.refuse(KL_INVALID, "qkv_rope_kv: head_dim must be a multiple of 8, from 8 to 256.");
  }
  if (a.kv_heads == 0 || a.heads == 0 || a.heads % a.kv_heads != 0 || a.heads > 65536) {
    return instance.refuse(KL_INVALID, "qkv_rope_kv: heads must be a multiple of kv_heads, at most 65536.");
  }
  if (!kl::all_present(a.row_seq, a.positions, a.block_table, a.x, a.weight, a.bias, a.inv_freq, a.q, a.kv)) {
    return instance.refuse(KL_INVALID, "qkv_rope_kv: a pointer is null.");
  }
  const auto page_of = [&](uint64_t t) {
    return a.block_table[static_cast<uint64_t>(a.row_seq[t]) * a.block_table_stride +
                         static_cast<uint64_t>(a.positions[t]) / 64];
  };
  for (uint64_t t = 0; t < a.tokens; t++) {
    if (a.row_seq[t] < 0) continue;
    if (a.positions[t] < 0 || static_cast<uint32_t>(a.positions[t]) / 64 >= a.block_table_stride) {
      return instance.refuse(KL_INVALID, "qkv_rope_kv: a position has no entry in the block table.");
    }
    if (page_of(t) < 0) return instance.refuse(KL_INVALID, "qkv_rope_kv: a position lies in a page that was freed.");
  }

  const float* x = static_cast<const float*>(a.x);
  float* q = static_cast<float*>(a.q);
  float* kv = static_cast<float*>(a.kv);
  const uint64_t heads = a.heads, kv_heads = a.kv_heads, dim = a.head_dim, hidden = a.hidden;
  const uint64_t q_width = heads * dim, kv_width = kv_heads * dim;
  // Values of row t's position for kv head h; which: 0 for K, 1 for V.
  const auto slot = [&](uint64_t t, uint64_t which, uint64_t h) {
    const uint64_t page = static_cast<uint64_t>(page_of(t)), offset = static_cast<uint64_t>(a.positions[t]) % 64;
    return kv + (((page * 2 + which) * kv_heads + h) * 64 + offset) * dim;
  };

  const kl_status status = kl::linear(
      instance, a.tokens, {a.weight, static_cast<int64_t>(hidden)}, q_width + 2 * kv_width,
      [&](uint64_t t) { return a.row_seq[t] < 0 ? nullptr : x + t * hidden; },
      [&](uint64_t t, int64_t n0, int64_t n1, const float* column) {
        for (uint64_t n = static_cast<uint64_t>(n0); n < static_cast<uint64_t>(n1);) {
          // One head, or what of it lies in this block.
          const uint64_t head = n / dim, i = n % dim, end = kl::smaller((head + 1) * dim, static_cast<uint64_t>(n1));
          float* to = head < heads              ? q + t * q_width + head * dim
                      : head < heads + kv_heads ? slot(t, 0, head - heads)
                                                : slot(t, 1, head - heads - kv_heads);
          const float* from = column + (n - static_cast<uint64_t>(n0)) * kl::block_m;
          for (uint64_t j = 0; j < end - n; j++) to[i + j] = from[j * kl::block_m] + kl::from_bf16(a.bias[n + j]);
          n = end;
        }
      });
  if (status != KL_OK) return status;

  instance.parallel(kl::ceil_div(a.tokens, 8), [&](uint32_t task, uint32_t) {
    for (uint64_t t = task * 8ull; t < kl::smaller<uint64_t>(a.tokens, task * 8ull + 8); t++) {
      if (a.row_seq[t] < 0) continue;
      const uint64_t half = dim / 2;
      float cosine[128], sine[128];
      const float position = static_cast<float>(a.positions[t]);
      for (uint64_t i = 0; i < half; i++) {
        const float angle = position * a.inv_freq[i];
        cosine[i] = cosf(angle) * a.rope_scale;
        sine[i] = sinf(angle) * a.rope_scale;
      }
      for (uint64_t h = 0; h < heads + kv_heads; h++) {
        float* low = h < heads ? q + t * q_width + h * dim : slot(t, 0, h - heads);
        float* high = low + half;
        for (uint64_t i = 0; i < half; i++) {
          const float l = low[i], u = high[i];
          low[i] = l * cosine[i] - u * sine[i];
          high[i] = u * cosine[i] + l * sine[i];
        }
      }
    }
  });
  return KL_OK;
}
