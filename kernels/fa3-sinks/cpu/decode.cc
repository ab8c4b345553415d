// One query row per sequence over its pages. All heads of a kv head read a page together; long contexts are cut into up
// to 16 parts that workers take in any order and one loop joins in a fixed order, where the sink is added, once.
#include "attention.h"

namespace {

constexpr uint64_t most_parts = 16;
constexpr uint64_t least_pages = 4; // of a part: 256 keys

// How a sequence is cut: by its own keys alone, so that neither its neighbours nor the workers matter.
struct Cut {
  uint64_t first_page = 0, end_page = 0, pages = 1, parts = 0;
};

Cut cut_of(const kl_attn_decode_args& a, uint64_t s) {
  const int64_t context = a.context[s];
  if (context == 0) return {};
  Cut cut;
  cut.first_page = static_cast<uint64_t>(fa::first_key(context - 1, a.window)) / fa::page;
  cut.end_page = static_cast<uint64_t>(context - 1) / fa::page + 1;
  const uint64_t pages = cut.end_page - cut.first_page;
  cut.pages = kl::larger(least_pages, kl::ceil_div(pages, most_parts));
  cut.parts = kl::ceil_div(pages, cut.pages);
  return cut;
}

}  // namespace

kl_status attn_decode(const kl::Instance& instance, const kl_attn_decode_args& a) {
  if (const kl_status status = fa::check(instance, a); status != KL_OK) return status;
  if (a.tokens < a.seqs) return instance.refuse(KL_INVALID, "attn_decode: there must be one row for each sequence.");
  for (uint64_t s = 0; s < a.seqs; s++) {
    if (a.context[s] < 0) return instance.refuse(KL_INVALID, "attn_decode: a context is negative.");
    if (a.context[s] == 0) continue;
    const int64_t first = fa::first_key(a.context[s] - 1, a.window);
    if (const kl_status status = fa::check_pages(instance, a, s, first); status != KL_OK) return status;
  }
  const uint64_t heads = a.heads, kv_heads = a.kv_heads, dim = a.head_dim;
  const uint64_t group = heads / kv_heads;
  const uint64_t tile_heads = kl::smaller<uint64_t>(group, fa::tile_queries);
  const uint64_t head_tiles = kl::ceil_div(group, tile_heads);
  // Parts by [seq][head][part]: unfinished outputs, largest logits and sums.
  kl::Arena arena(a.scratch, a.scratch_bytes);
  float* partial = arena.take<float>(a.seqs * heads * most_parts * dim);
  float* most = arena.take<float>(a.seqs * heads * most_parts);
  float* sum = arena.take<float>(a.seqs * heads * most_parts);
  if (a.seqs > 0 && !arena.fits()) {
    return instance.refuse(KL_WORKSPACE, "attn_decode: scratch is smaller than the workspace rule asks for.");
  }
  const uint64_t per_seq = kv_heads * head_tiles * most_parts;
  if (a.seqs * per_seq > kl::max_tasks || a.seqs * heads > kl::max_tasks) {
    return instance.refuse(KL_INVALID, "attn_decode: more work than one launch can hold.");
  }

  const float* q = static_cast<const float*>(a.q);
  float* out = static_cast<float*>(a.out);
  instance.parallel(a.seqs * per_seq, [&](uint32_t task, uint32_t) {
    const uint64_t s = task / per_seq, part = task % most_parts;
    const uint64_t head_tile = task / most_parts % head_tiles, kv_head = task / most_parts / head_tiles % kv_heads;
    const Cut cut = cut_of(a, s);
    if (part >= cut.parts) return;
    const uint64_t h0 = kv_head * group + head_tile * tile_heads;
    const uint64_t h1 = kl::smaller(h0 + tile_heads, (kv_head + 1) * group);
    fa::Tile tile;
    tile.count = static_cast<int>(h1 - h0);
    tile.head_dim = dim;
    tile.scale = a.scale;
    for (uint64_t h = h0; h < h1; h++) {
      tile.q[h - h0] = q + (s * heads + h) * dim;
      tile.o[h - h0] = partial + ((s * heads + h) * most_parts + part) * dim;
      tile.first[h - h0] = fa::first_key(a.context[s] - 1, a.window);
      tile.last[h - h0] = a.context[s] - 1;
    }
    tile.begin();
    const uint64_t from = cut.first_page + part * cut.pages, to = kl::smaller(cut.end_page, from + cut.pages);
    for (uint64_t p = from; p < to; p++) {
      tile.take(static_cast<int64_t>(p * fa::page), fa::page_of(a, s, p, 0, kv_head), fa::page_of(a, s, p, 1, kv_head));
    }
    for (uint64_t h = h0; h < h1; h++) {
      most[(s * heads + h) * most_parts + part] = tile.most[h - h0];
      sum[(s * heads + h) * most_parts + part] = tile.sum[h - h0];
    }
  });

  constexpr uint64_t batch = 8;
  instance.parallel(kl::ceil_div(a.seqs * heads, batch), [&](uint32_t task, uint32_t) {
    for (uint64_t i = task * batch; i < kl::smaller(a.seqs * heads, (task + 1) * batch); i++) {
      const uint64_t s = i / heads, parts = cut_of(a, s).parts;
      if (parts == 0) continue;
      float top = -INFINITY, total = 0.0f;
      for (uint64_t p = 0; p < parts; p++) top = kl::larger(top, most[i * most_parts + p]);
      float* to = out + i * dim;
      memset(to, 0, dim * sizeof(float));
      for (uint64_t p = 0; p < parts; p++) {
        const float factor = kl::exp1(most[i * most_parts + p] - top);
        total += sum[i * most_parts + p] * factor;
        const float* from = partial + (i * most_parts + p) * dim;
        for (uint64_t j = 0; j < dim; j += 8) {
          const __m256 sum = _mm256_loadu_ps(to + j);
          _mm256_storeu_ps(to + j, _mm256_fmadd_ps(_mm256_loadu_ps(from + j), _mm256_set1_ps(factor), sum));
        }
      }
      fa::finish(to, top, total, kl::from_bf16(a.sinks[i % heads]), dim, to);
    }
  });
  return KL_OK;
}
