// Ops that move rows: embed, residual, copy_rows.
#include "core.h"

kl_status embed(const kl::Instance& instance, const kl_embed_args& a) {
  if (a.stream_dtype != KL_F32) return instance.refuse(KL_UNSUPPORTED, "embed: this variant has an f32 stream only.");
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "embed: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (!kl::all_present(a.row_seq, a.token_ids, a.weight, a.out)) {
    return instance.refuse(KL_INVALID, "embed: a pointer is null.");
  }
  for (uint32_t t = 0; t < a.tokens; t++) {
    if (a.row_seq[t] < 0) continue;
    if (a.token_ids[t] < 0 || static_cast<uint32_t>(a.token_ids[t]) >= a.vocab) {
      return instance.refuse(KL_INVALID, "embed: a token id is outside of the vocabulary.");
    }
  }
  float* out = static_cast<float*>(a.out);
  const uint64_t hidden = a.hidden;
  instance.parallel(kl::ceil_div(a.tokens, 16), [&](uint32_t task, uint32_t) {
    for (uint64_t t = task * 16ull; t < kl::smaller<uint64_t>(a.tokens, task * 16ull + 16); t++) {
      if (a.row_seq[t] < 0) continue;
      const uint16_t* from = a.weight + static_cast<uint64_t>(a.token_ids[t]) * hidden;
      for (uint64_t i = 0; i < hidden; i += 8) _mm256_storeu_ps(out + t * hidden + i, kl::load_bf16(from + i));
    }
  });
  return KL_OK;
}

kl_status residual(const kl::Instance& instance, const kl_residual_args& a) {
  if (a.dtype != KL_F32 || a.stream_dtype != KL_F32) {
    return instance.refuse(KL_UNSUPPORTED, "residual: this variant has f32 activations and an f32 stream only.");
  }
  if (a.hidden == 0 || a.hidden % 32 != 0 || a.hidden > kl::max_width) {
    return instance.refuse(KL_INVALID, "residual: hidden must be a multiple of 32, from 32 to 1048576.");
  }
  if (!kl::all_present(a.row_seq, a.x, a.stream)) return instance.refuse(KL_INVALID, "residual: a pointer is null.");
  const float* x = static_cast<const float*>(a.x);
  float* stream = static_cast<float*>(a.stream);
  const uint64_t hidden = a.hidden;
  instance.parallel(kl::ceil_div(a.tokens, 16), [&](uint32_t task, uint32_t) {
    for (uint64_t t = task * 16ull; t < kl::smaller<uint64_t>(a.tokens, task * 16ull + 16); t++) {
      if (a.row_seq[t] < 0) continue;
      for (uint64_t i = t * hidden; i < (t + 1) * hidden; i += 8) {
        _mm256_storeu_ps(stream + i, _mm256_add_ps(_mm256_loadu_ps(stream + i), _mm256_loadu_ps(x + i)));
      }
    }
  });
  return KL_OK;
}

// Rows must not overlap in dst, nor src and dst overlap.
kl_status copy_rows(const kl::Instance& instance, const kl_copy_rows_args& a) {
  if (a.rows == 0 || a.row_bytes == 0) return KL_OK;
  if (!kl::all_present(a.src, a.dst)) return instance.refuse(KL_INVALID, "copy_rows: a pointer is null.");
  if (a.rows > 1 && a.dst_stride < a.row_bytes) {
    return instance.refuse(KL_INVALID, "copy_rows: destination rows overlap.");
  }
  // Pieces of about a megabyte: whole rows where they are short, parts of one where they are long.
  constexpr uint64_t piece = 1 << 20;
  const uint64_t parts = kl::ceil_div(a.row_bytes, piece);
  const uint64_t group = parts > 1 ? 1 : kl::larger<uint64_t>(1, piece / a.row_bytes);
  const uint64_t groups = kl::ceil_div(a.rows, group);
  if (groups > kl::max_tasks / parts) {
    return instance.refuse(KL_INVALID, "copy_rows: more work than one launch can hold.");
  }
  const uint8_t* src = static_cast<const uint8_t*>(a.src);
  uint8_t* dst = static_cast<uint8_t*>(a.dst);
  instance.parallel(groups * parts, [&](uint32_t task, uint32_t) {
    const uint64_t first = task / parts * group, last = kl::smaller(a.rows, first + group);
    const uint64_t begin = task % parts * piece, end = kl::smaller(a.row_bytes, begin + piece);
    if (parts == 1 && a.src_stride == a.row_bytes && a.dst_stride == a.row_bytes) {
      memcpy(dst + first * a.row_bytes, src + first * a.row_bytes, (last - first) * a.row_bytes);
      return;
    }
    for (uint64_t r = first; r < last; r++) {
      memcpy(dst + r * a.dst_stride + begin, src + r * a.src_stride + begin, end - begin);
    }
  });
  return KL_OK;
}
