// Causal attention for sequences of any number of query rows: tiles of up to 48 (row, head) pairs of one kv head, so that
// a page of keys is read once for all heads of the group and several rows. Pages that no row of a tile sees are skipped.
#include "attention.h"

kl_status attn_prefill(const kl::Instance& instance, const kl_attn_prefill_args& a) {
  if (const kl_status status = fa::check(instance, a); status != KL_OK) return status;
  if (a.query_start == nullptr) return instance.refuse(KL_INVALID, "attn_prefill: a pointer is null.");
  const uint64_t heads = a.heads, kv_heads = a.kv_heads, dim = a.head_dim;
  const uint64_t group = heads / kv_heads;
  const uint64_t tile_heads = kl::smaller<uint64_t>(group, fa::tile_queries);
  const uint64_t tile_rows = fa::tile_queries / tile_heads;
  const uint64_t head_tiles = kl::ceil_div(group, tile_heads);

  uint64_t row_tiles = 0;
  for (uint64_t s = 0; s < a.seqs; s++) {
    const int64_t begin = a.query_start[s], end = a.query_start[s + 1], context = a.context[s];
    if (begin < 0 || end < begin || end > a.tokens) {
      return instance.refuse(KL_INVALID, "attn_prefill: query_start must rise within the rows of this launch.");
    }
    if (context < 0 || (context > 0 && end - begin > context)) {
      return instance.refuse(KL_INVALID, "attn_prefill: a sequence has more query rows than keys.");
    }
    if (context == 0 || begin == end) continue;
    const int64_t first = fa::first_key(context - (end - begin), a.window);
    if (const kl_status status = fa::check_pages(instance, a, s, first); status != KL_OK) return status;
    row_tiles += kl::ceil_div(static_cast<uint64_t>(end - begin), tile_rows);
  }
  const uint64_t per_row_tile = kv_heads * head_tiles;
  if (row_tiles * per_row_tile > kl::max_tasks) {
    return instance.refuse(KL_INVALID, "attn_prefill: more work than one launch can hold.");
  }

  const float* q = static_cast<const float*>(a.q);
  float* out = static_cast<float*>(a.out);
  instance.parallel(row_tiles * per_row_tile, [&](uint32_t task, uint32_t) {
    // Late rows see the most keys: they go first, so that workers end together.
    uint64_t row_tile = row_tiles - 1 - task / per_row_tile;
    const uint64_t kv_head = task % per_row_tile / head_tiles, head_tile = task % head_tiles;
    uint64_t s = 0;
    for (;; s++) {
      if (a.context[s] == 0) continue;
      const uint64_t tiles = kl::ceil_div(static_cast<uint64_t>(a.query_start[s + 1] - a.query_start[s]), tile_rows);
      if (row_tile < tiles) break;
      row_tile -= tiles;
    }
    const uint64_t begin = static_cast<uint64_t>(a.query_start[s]);
    const uint64_t rows = static_cast<uint64_t>(a.query_start[s + 1]) - begin;
    const uint64_t r0 = row_tile * tile_rows, r1 = kl::smaller(rows, r0 + tile_rows);
    const uint64_t h0 = kv_head * group + head_tile * tile_heads;
    const uint64_t h1 = kl::smaller(h0 + tile_heads, (kv_head + 1) * group);

    fa::Tile tile;
    tile.count = 0;
    tile.head_dim = dim;
    tile.scale = a.scale;
    float sinks[fa::tile_queries];
    const int64_t before = a.context[s] - static_cast<int64_t>(rows);
    for (uint64_t r = r0; r < r1; r++) {
      const int64_t position = before + static_cast<int64_t>(r);
      for (uint64_t h = h0; h < h1; h++) {
        const uint64_t at = ((begin + r) * heads + h) * dim;
        sinks[tile.count] = kl::from_bf16(a.sinks[h]);
        tile.q[tile.count] = q + at;
        tile.o[tile.count] = out + at;
        tile.first[tile.count] = fa::first_key(position, a.window);
        tile.last[tile.count++] = position;
      }
    }
    tile.begin();
    const uint64_t from = static_cast<uint64_t>(fa::first_key(before + static_cast<int64_t>(r0), a.window)) / fa::page;
    const uint64_t to = (static_cast<uint64_t>(before) + r1 - 1) / fa::page;
    for (uint64_t p = from; p <= to; p++) {
      tile.take(static_cast<int64_t>(p * fa::page), fa::page_of(a, s, p, 0, kv_head), fa::page_of(a, s, p, 1, kv_head));
    }
    for (int i = 0; i < tile.count; i++) {
      fa::finish(tile.o[i], tile.most[i], tile.sum[i], sinks[i], dim, tile.o[i]);
    }
  });
  return KL_OK;
}
