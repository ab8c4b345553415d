// Dropless mixture of experts over any weights of gemm.h, after MegaBlocks' grouped form: (token, slot) pairs are
// sorted by expert, each expert's weights meet all of its rows at once, no pair is dropped and none is padded.
#pragma once
#include "cpu/gemm.h"

namespace kl {

// The members that kl_moe_args and kl_moe_residual_args share, and where the sum goes.
struct Moe {
  uint64_t tokens, hidden, intermediate, experts, top_k, expert_begin, expert_end;
  float alpha, limit;
  const int32_t* row_seq;
  const float* x;
  const int32_t* expert_ids;
  const float* expert_weights;
  const uint16_t* up_bias;
  const uint16_t* down_bias;
  float* to;
  bool add; // to += sum, else to = sum
  uint8_t* scratch;
  uint64_t scratch_bytes;

  bool runs(uint64_t pair) const {
    if (row_seq[pair / top_k] < 0) return false;
    const uint64_t expert = static_cast<uint64_t>(expert_ids[pair]);
    return expert >= expert_begin && expert < expert_end;
  }
};

// At most block_m sorted pairs of one expert.
struct MoeItem {
  int32_t expert; // counted from expert_begin
  int32_t first;  // in the sorted order
  int32_t count;
  int32_t unused;
};

// Checks what both ops and both layouts have in common.
template <class Args>
kl_status check_moe(const Instance& instance, const Args& a) {
  if (a.dtype != KL_F32 || a.stream_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "moe: this variant has f32 activations and an f32 stream only.");
  }
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > max_width) {
    return instance.refuse(KL_INVALID, "moe: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (a.intermediate == 0 || a.intermediate % 32 != 0 || a.intermediate > max_width) {
    return instance.refuse(KL_INVALID, "moe: intermediate must be a multiple of 32, from 32 to 1048576.");
  }
  if (a.experts == 0 || a.experts > max_width) return instance.refuse(KL_INVALID, "moe: experts must be 1 to 1048576.");
  if (a.top_k == 0 || a.top_k > a.experts) return instance.refuse(KL_INVALID, "moe: top_k must be 1 to experts.");
  if (a.expert_begin > a.expert_end || a.expert_end > a.experts) {
    return instance.refuse(KL_INVALID, "moe: the expert range must lie within the experts.");
  }
  if (a.partial > 1) return instance.refuse(KL_INVALID, "moe: partial must be 0 or 1.");
  if (uint64_t{a.tokens} * a.top_k > INT32_MAX) {
    return instance.refuse(KL_INVALID, "moe: too many (token, slot) pairs.");
  }
  if (!all_present(a.row_seq, a.x, a.expert_ids, a.expert_weights, a.up_weight, a.up_bias, a.down_weight,
                   a.down_bias)) {
    return instance.refuse(KL_INVALID, "moe: a pointer is null.");
  }
  for (uint64_t t = 0; t < a.tokens; t++) {
    if (a.row_seq[t] < 0) continue;
    for (uint64_t s = 0; s < a.top_k; s++) {
      const int32_t expert = a.expert_ids[t * a.top_k + s];
      if (expert < 0 || static_cast<uint32_t>(expert) >= a.experts) {
        return instance.refuse(KL_INVALID, "moe: an expert id is outside of [0, experts).");
      }
    }
  }
  return KL_OK;
}

template <class Args>
Moe moe_of(const Args& a, void* to, bool add) {
  return {a.tokens, a.hidden, a.intermediate, a.experts, a.top_k, a.expert_begin, a.expert_end, a.alpha, a.limit,
          a.row_seq, static_cast<const float*>(a.x), a.expert_ids, a.expert_weights, a.up_bias, a.down_bias,
          static_cast<float*>(to), add, a.scratch, a.scratch_bytes};
}

// gate * sigmoid(alpha * gate) * (up + 1) with gate clamped from above and up from both sides.
inline __m256 swiglu(__m256 gate, __m256 up, float alpha, float limit) {
  const __m256 one = _mm256_set1_ps(1.0f), most = _mm256_set1_ps(limit);
  gate = _mm256_min_ps(most, gate);
  up = _mm256_max_ps(_mm256_set1_ps(-limit), _mm256_min_ps(most, up));
  const __m256 e = exp8(_mm256_mul_ps(gate, _mm256_set1_ps(-alpha)));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(one, e)), _mm256_add_ps(up, one));
}

// W is a kind of weights; up(e) and down(e) give those of the e-th expert held here. Scratch, in the order of
// variant.json's terms: sorted pairs, offsets, items, h, y and, where W orders its rows of A in its own way, x in it.
template <class W, class Up, class Down>
kl_status run_moe(const Instance& instance, const Moe& m, const Up& up, const Down& down) {
  constexpr bool reorders = W::position(1) != 1;
  const uint64_t pairs = m.tokens * m.top_k;
  const uint64_t h_width = static_cast<uint64_t>(W::padded(static_cast<int64_t>(m.intermediate)));
  const uint64_t x_width = static_cast<uint64_t>(W::padded(static_cast<int64_t>(m.hidden)));
  Arena arena(m.scratch, m.scratch_bytes);
  int32_t* sorted = arena.take<int32_t>(pairs);
  int32_t* offsets = arena.take<int32_t>(m.experts + 1);
  MoeItem* items = arena.take<MoeItem>(pairs);
  float* h = arena.take<float>(pairs * h_width);
  float* y = arena.take<float>(pairs * m.hidden);
  float* own_x = reorders ? arena.take<float>(m.tokens * x_width) : nullptr;
  if (!arena.fits()) return instance.refuse(KL_WORKSPACE, "moe: scratch is smaller than the workspace rule asks for.");
  const float* x = reorders ? own_x : m.x;

  // Stable counting sort of the pairs by expert.
  const uint64_t held = m.expert_end - m.expert_begin;
  memset(offsets, 0, (held + 1) * sizeof(int32_t));
  for (uint64_t p = 0; p < pairs; p++) {
    if (m.runs(p)) offsets[static_cast<uint64_t>(m.expert_ids[p]) - m.expert_begin + 1]++;
  }
  for (uint64_t e = 0; e < held; e++) offsets[e + 1] += offsets[e];
  for (uint64_t p = 0; p < pairs; p++) {
    if (m.runs(p)) sorted[offsets[static_cast<uint64_t>(m.expert_ids[p]) - m.expert_begin]++] = static_cast<int32_t>(p);
  }
  // Filling moved each offset to its expert's end.
  uint64_t item_count = 0;
  for (uint64_t e = 0; e < held; e++) {
    for (int32_t first = e == 0 ? 0 : offsets[e - 1]; first < offsets[e]; first += block_m) {
      items[item_count++] = {static_cast<int32_t>(e), first, smaller(block_m, offsets[e] - first), 0};
    }
  }
  const uint64_t up_blocks = ceil_div(2 * m.intermediate, block_n), down_blocks = ceil_div(m.hidden, block_n);
  if (item_count * larger(up_blocks, down_blocks) > max_tasks) {
    return instance.refuse(KL_INVALID, "moe: more work than one launch can hold.");
  }

  if constexpr (reorders) {
    instance.parallel(ceil_div(m.tokens, 8), [&](uint32_t task, uint32_t) {
      for (uint64_t t = uint64_t{task} * 8; t < smaller(m.tokens, uint64_t{task} * 8 + 8); t++) {
        if (m.row_seq[t] < 0) continue;
        float* row = own_x + t * x_width;
        for (uint64_t i = m.hidden; i < x_width; i++) row[W::position(static_cast<int64_t>(i))] = 0.0f;
        for (uint64_t i = 0; i < m.hidden; i++) row[W::position(static_cast<int64_t>(i))] = m.x[t * m.hidden + i];
      }
    });
  }

  // h = swiglu(up x + bias), one row per pair. Gate rows are even and up rows odd, and block_n is even.
  instance.parallel(item_count * up_blocks, [&](uint32_t task, uint32_t) {
    const MoeItem& item = items[task / up_blocks];
    const int64_t n0 = static_cast<int64_t>(task % up_blocks) * block_n;
    const int64_t n1 = smaller<int64_t>(n0 + block_n, static_cast<int64_t>(2 * m.intermediate));
    const float* rows[block_m];
    for (int i = 0; i < item.count; i++) {
      rows[i] = x + static_cast<uint64_t>(sorted[item.first + i]) / m.top_k * x_width;
    }
    alignas(64) BlockC c;
    gemm_block(up(item.expert), rows, item.count, n0, n1, c);
    const uint16_t* bias = m.up_bias + static_cast<uint64_t>(item.expert) * 2 * m.intermediate;
    for (int64_t n = n0; n < n1; n += 2) {
      const float* gate = c + (n - n0) * block_m;
      const uint64_t at = static_cast<uint64_t>(W::position(n / 2));
      for (int i = 0; i < item.count; i += 8) {
        const __m256 g = _mm256_add_ps(_mm256_load_ps(gate + i), _mm256_set1_ps(from_bf16(bias[n])));
        const __m256 u = _mm256_add_ps(_mm256_load_ps(gate + block_m + i), _mm256_set1_ps(from_bf16(bias[n + 1])));
        alignas(32) float value[8];
        _mm256_store_ps(value, swiglu(g, u, m.alpha, m.limit));
        for (int j = i; j < smaller(i + 8, item.count); j++) {
          h[static_cast<uint64_t>(sorted[item.first + j]) * h_width + at] = value[j - i];
        }
      }
    }
    if (task % up_blocks == 0) {
      for (uint64_t i = m.intermediate; i < h_width; i++) {
        for (int j = 0; j < item.count; j++) {
          float* row = h + static_cast<uint64_t>(sorted[item.first + j]) * h_width;
          row[W::position(static_cast<int64_t>(i))] = 0.0f;
        }
      }
    }
  });

  // y = down h + bias, one row per pair.
  instance.parallel(item_count * down_blocks, [&](uint32_t task, uint32_t) {
    const MoeItem& item = items[task / down_blocks];
    const int64_t n0 = static_cast<int64_t>(task % down_blocks) * block_n;
    const int64_t n1 = smaller<int64_t>(n0 + block_n, static_cast<int64_t>(m.hidden));
    const float* rows[block_m];
    for (int i = 0; i < item.count; i++) rows[i] = h + static_cast<uint64_t>(sorted[item.first + i]) * h_width;
    alignas(64) BlockC c;
    gemm_block(down(item.expert), rows, item.count, n0, n1, c);
    const uint16_t* bias = m.down_bias + static_cast<uint64_t>(item.expert) * m.hidden;
    for (int i = 0; i < item.count; i++) {
      float* row = y + static_cast<uint64_t>(sorted[item.first + i]) * m.hidden;
      for (int64_t n = n0; n < n1; n++) row[n] = c[(n - n0) * block_m + i] + from_bf16(bias[n]);
    }
  });

  // The weighted sum of a token's slots, in the order of the slots.
  constexpr uint64_t strip = 1024;
  const uint64_t strips = ceil_div(m.hidden, strip);
  instance.parallel(m.tokens * strips, [&](uint32_t task, uint32_t) {
    const uint64_t t = task / strips, begin = task % strips * strip, end = smaller(begin + strip, m.hidden);
    if (m.row_seq[t] < 0) return;
    for (uint64_t i = begin; i < end; i += 8) {
      __m256 sum = _mm256_setzero_ps();
      for (uint64_t p = t * m.top_k; p < (t + 1) * m.top_k; p++) {
        if (!m.runs(p)) continue;
        sum = _mm256_fmadd_ps(_mm256_set1_ps(m.expert_weights[p]), _mm256_loadu_ps(y + p * m.hidden + i), sum);
      }
      float* to = m.to + t * m.hidden + i;
      _mm256_storeu_ps(to, m.add ? _mm256_add_ps(_mm256_loadu_ps(to), sum) : sum);
    }
  });
  return KL_OK;
}

}  // namespace kl
