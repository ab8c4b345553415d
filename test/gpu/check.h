// Every op against its double-precision reference: random inputs, poisoned outputs, odd sizes, rows that are not there.
#pragma once
#include "device.h"
#include "reference.h"

namespace check {
using gpu::Device;
using gpu::fetch;
using gpu::Library;
using gpu::Memory;

struct Libraries {
  Library core, norm, attention, mxfp4, megablocks;
};

inline int failures = 0, passes = 0;
inline bool pdl = true;

// Rows of `got` against rows of `want`; absent rows must still be poison (all bits set).
inline void rows(const std::string& what, const std::vector<double>& got, const std::vector<double>& want, uint64_t width,
                 const std::vector<int>& there, double limit, bool absent_poisoned = true) {
  std::vector<double> errors;
  bool untouched = true, finite = true;
  for (uint64_t r = 0; r < there.size(); ++r) {
    if (there[r] < 0) {
      if (absent_poisoned) {
        for (uint64_t i = 0; i < width; ++i) untouched &= std::isnan(got[r * width + i]);
      }
      continue;
    }
    double difference = 0, norm = 0;
    for (uint64_t i = 0; i < width; ++i) {
      const double d = got[r * width + i] - want[r * width + i];
      difference += d * d;
      norm += want[r * width + i] * want[r * width + i];
    }
    const double error = sqrt(difference / (norm + 1e-300));
    finite &= std::isfinite(error);
    errors.push_back(std::isfinite(error) ? error : 1e9);
  }
  const auto in_order = errors;
  std::sort(errors.begin(), errors.end());
  const double worst = errors.empty() ? 0 : errors.back(), median = errors.empty() ? 0 : errors[errors.size() / 2];
  const bool good = worst <= limit && finite && untouched;
  (good ? passes : failures)++;
  printf("%-4s %-58s rows %4zu  median %.2e  max %.2e  limit %.0e%s\n", good ? "ok" : "FAIL", what.c_str(), errors.size(), median, worst,
         limit, untouched ? "" : "  absent rows were written");
  if (!good) {
    size_t bad = 0, shown = 0;
    for (double e : in_order) bad += !(e <= limit);
    printf("     %zu rows off:", bad);
    for (size_t i = 0; i < in_order.size() && shown < 24; ++i) {
      if (!(in_order[i] <= limit)) printf(" %zu:%.2g", i, in_order[i]), ++shown;
    }
    printf("\n");
  }
  fflush(stdout);
}
inline void truth(const std::string& what, bool good) {
  (good ? passes : failures)++;
  printf("%-4s %s\n", good ? "ok" : "FAIL", what.c_str());
  fflush(stdout);
}

inline std::vector<double> doubles(const std::vector<uint16_t>& v) {
  std::vector<double> d(v.size());
  for (size_t i = 0; i < v.size(); ++i) d[i] = ref::of_bf16(v[i]);
  return d;
}
inline std::vector<double> doubles(const std::vector<float>& v) { return {v.begin(), v.end()}; }

// The stream as f32 or bf16 on the device, its exact values here.
struct Stream {
  void* device;
  std::vector<double> values;
  bool f32;
  Stream(Memory& m, ref::Random& r, uint64_t n, bool f32_, float scale = 2) : f32(f32_) {
    auto v = r.floats(n, scale);
    if (f32) {
      device = m.put(v);
      values = doubles(v);
    } else {
      std::vector<uint16_t> b(n);
      for (uint64_t i = 0; i < n; ++i) b[i] = ref::bf16(v[i]);
      device = m.put(b);
      values = doubles(b);
    }
  }
  std::vector<double> now() const {
    return f32 ? doubles(fetch<float>(device, values.size())) : doubles(fetch<uint16_t>(device, values.size()));
  }
};

// Rows of a launch: every fourth or so absent, sequences otherwise shuffled.
inline std::vector<int> row_map(ref::Random& r, uint32_t tokens) {
  std::vector<int> m(tokens);
  for (uint32_t i = 0; i < tokens; ++i) m[i] = tokens > 1 && i % 5 == 3 ? -1 : int(i);
  (void)r;
  return m;
}
inline void run(Device& d, kl_status status) {
  if (status != KL_OK) {
    printf("FAIL status %d\n", status);
    ++failures;
  }
  d.sync();
}
// The rows whose reference is computed: all, or some where there are many.
inline std::vector<int> chosen_rows(const std::vector<int>& map, uint32_t most) {
  std::vector<int> picked(map.size(), -1);
  const size_t step = map.size() > most ? map.size() / most : 1;
  for (size_t i = 0; i < map.size(); ++i) {
    if (map[i] >= 0 && (i % step == step / 2 || step == 1 || i + 1 == map.size())) picked[i] = map[i];
  }
  return picked;
}

inline void embed(Device& d, Libraries& l, ref::Random& r, uint32_t tokens, uint32_t hidden, bool f32) {
  Memory m;
  const uint32_t vocab = 777;
  const auto weight = r.bf16s(uint64_t(vocab) * hidden, 1);
  auto map = row_map(r, tokens);
  std::vector<int> ids(tokens);
  for (auto& i : ids) i = r.below(vocab);
  kl_embed_args a = {};
  a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.hidden = hidden, a.vocab = vocab;
  a.row_seq = m.put(map), a.token_ids = m.put(ids), a.weight = m.put(weight);
  void* out = a.out = m.poisoned<float>(uint64_t(tokens) * hidden);
  run(d, l.core.run(d, KL_OP_EMBED, a, pdl));
  std::vector<double> want(uint64_t(tokens) * hidden);
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t i = 0; i < hidden; ++i) want[t * hidden + i] = ref::of_bf16(weight[uint64_t(ids[t]) * hidden + i]);
  }
  rows("embed", f32 ? doubles(fetch<float>(out, want.size())) : doubles(fetch<uint16_t>(out, want.size())), want, hidden, map, 0);
  m.clear();
}

inline void rmsnorm(Device& d, Libraries& l, ref::Random& r, uint32_t tokens, uint32_t hidden, bool f32) {
  Memory m;
  Stream x(m, r, uint64_t(tokens) * hidden, f32);
  const auto weight = r.bf16s(hidden, 0.3f, 1);
  auto map = row_map(r, tokens);
  kl_rmsnorm_args a = {};
  a.dtype = KL_BF16, a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.hidden = hidden, a.eps = 1e-5f;
  a.row_seq = m.put(map), a.x = x.device, a.weight = m.put(weight), a.out = m.poisoned<uint16_t>(uint64_t(tokens) * hidden);
  run(d, l.norm.run(d, KL_OP_RMSNORM, a, pdl));
  std::vector<double> want(uint64_t(tokens) * hidden);
  for (uint32_t t = 0; t < tokens; ++t) ref::norm(&x.values[uint64_t(t) * hidden], hidden, weight.data(), 1e-5f, &want[uint64_t(t) * hidden]);
  rows("rmsnorm tokens " + std::to_string(tokens) + " hidden " + std::to_string(hidden) + (f32 ? " f32" : " bf16"),
       doubles(fetch<uint16_t>(a.out, want.size())), want, hidden, map, 3e-3);
  m.clear();
}

inline std::vector<float> inverse_frequencies() {
  std::vector<float> v(32);
  for (int i = 0; i < 32; ++i) {
    const double f = pow(150000.0, 2 * i / 64.0), low = 8.092779, high = 17.398025;
    const double ramp = std::min(1.0, std::max(0.0, (i - low) / (high - low)));
    v[i] = float(ramp / (32 * f) + (1 - ramp) / f);
  }
  return v;
}

inline void qkv(Device& d, Libraries& l, ref::Random& r, uint32_t tokens, uint32_t hidden, uint32_t heads, uint32_t kv_heads,
                bool fused, bool f32) {
  Memory m;
  const uint32_t features = (heads + 2 * kv_heads) * 64, stride = 80;
  Stream x(m, r, uint64_t(tokens) * hidden, fused && f32);
  const auto norm_weight = r.bf16s(hidden, 0.3f, 1), weight = r.bf16s(uint64_t(features) * hidden, 0.04f), bias = r.bf16s(features, 0.5f);
  auto map = row_map(r, tokens);
  std::vector<int> positions(tokens), table(tokens * stride, -1);
  for (uint32_t t = 0; t < tokens; ++t) positions[t] = r.below(stride * 64);
  uint32_t pages = 3;
  for (uint32_t t = 0; t < tokens; ++t) table[t * stride + positions[t] / 64] = pages++;
  const auto inv = inverse_frequencies();
  const uint64_t kv_size = uint64_t(pages) * 2 * kv_heads * 4096;
  const float scale = 1.3465736f;
  uint16_t* q = m.poisoned<uint16_t>(uint64_t(tokens) * heads * 64);
  uint16_t* kv = m.poisoned<uint16_t>(kv_size);
  if (fused) {
    kl_norm_qkv_rope_kv_args a = {};
    a.dtype = a.kv_dtype = KL_BF16, a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.hidden = hidden, a.heads = heads, a.kv_heads = kv_heads;
    a.head_dim = 64, a.eps = 1e-5f, a.rope_scale = scale, a.block_table_stride = stride;
    a.row_seq = m.put(map), a.positions = m.put(positions), a.block_table = m.put(table), a.x = x.device, a.norm_weight = m.put(norm_weight);
    a.weight = m.put(weight), a.bias = m.put(bias), a.inv_freq = m.put(inv), a.q = q, a.kv = kv;
    run(d, l.core.run(d, KL_OP_NORM_QKV_ROPE_KV, a, pdl));
  } else {
    kl_qkv_rope_kv_args a = {};
    a.dtype = a.kv_dtype = KL_BF16, a.tokens = tokens, a.hidden = hidden, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = 64;
    a.rope_scale = scale, a.block_table_stride = stride;
    a.row_seq = m.put(map), a.positions = m.put(positions), a.block_table = m.put(table), a.x = x.device;
    a.weight = m.put(weight), a.bias = m.put(bias), a.inv_freq = m.put(inv), a.q = q, a.kv = kv;
    run(d, l.core.run(d, KL_OP_QKV_ROPE_KV, a, pdl));
  }
  const auto got_q = fetch<uint16_t>(q, uint64_t(tokens) * heads * 64), got_kv = fetch<uint16_t>(kv, kv_size);
  const auto picked = chosen_rows(map, 40);
  std::vector<double> got(uint64_t(tokens) * features), want(uint64_t(tokens) * features);
  uint64_t written = 0;
  for (uint16_t v : got_kv) written += v != 0xffff;
  uint64_t live = 0;
  for (int v : map) live += v >= 0;
  ref::parallel(tokens, [&](uint64_t t) {
    if (picked[t] < 0 && map[t] >= 0) return;
    for (uint32_t h = 0; h < heads + 2 * kv_heads; ++h) {
      for (uint32_t i = 0; i < 64; ++i) {
        uint16_t v;
        if (h < heads) {
          v = got_q[(t * heads + h) * 64 + i];
        } else {
          const uint32_t which = h >= heads + kv_heads, head = h - heads - which * kv_heads;
          const int page = table[t * stride + positions[t] / 64];
          v = got_kv[(((uint64_t(page) * 2 + which) * kv_heads + head) * 64 + positions[t] % 64) * 64 + i];
        }
        got[t * features + h * 64 + i] = ref::of_bf16(v);
      }
    }
    if (map[t] < 0) return;
    std::vector<double> row(x.values.begin() + t * hidden, x.values.begin() + (t + 1) * hidden);
    if (fused) ref::norm(row.data(), hidden, norm_weight.data(), 1e-5f, row.data());
    ref::linear(row.data(), hidden, weight.data(), bias.data(), features, &want[t * features]);
    for (uint32_t h = 0; h < heads + kv_heads; ++h) ref::rope(&want[t * features + h * 64], 64, positions[t], inv.data(), scale);
  });
  std::vector<int> graded(map);
  for (size_t t = 0; t < map.size(); ++t) {
    if (map[t] >= 0 && picked[t] < 0) {
      graded[t] = 0;
      for (uint32_t i = 0; i < features; ++i) got[t * features + i] = want[t * features + i] = 1;
    }
  }
  rows(std::string(fused ? "norm_" : "") + "qkv_rope_kv tokens " + std::to_string(tokens) + " hidden " + std::to_string(hidden) + " heads " +
           std::to_string(heads) + "/" + std::to_string(kv_heads) + (fused ? (f32 ? " f32" : " bf16") : ""),
       got, want, features, graded, fused ? 5e-3 : 3e-3);
  if (written != live * 2 * kv_heads * 64) truth("  the cache holds exactly the rows of this step", false);
  m.clear();
}

inline void projection(Device& d, Libraries& l, ref::Random& r, uint32_t tokens, uint32_t in, uint32_t out, bool residual, bool f32) {
  Memory m;
  const auto x = r.bf16s(uint64_t(tokens) * in, 1), weight = r.bf16s(uint64_t(in) * out, 0.03f), bias = r.bf16s(out, 0.5f);
  auto map = row_map(r, tokens);
  Stream stream(m, r, uint64_t(tokens) * out, f32, 0.5f);
  std::vector<double> got;
  if (residual) {
    kl_o_proj_residual_args a = {};
    a.dtype = KL_BF16, a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.in_features = in, a.out_features = out;
    a.row_seq = m.put(map), a.x = m.put(x), a.weight = m.put(weight), a.bias = m.put(bias), a.stream = stream.device;
    run(d, l.core.run(d, KL_OP_O_PROJ_RESIDUAL, a, pdl));
    got = stream.now();
  } else {
    kl_o_proj_args a = {};
    a.dtype = KL_BF16, a.stream_dtype = KL_BF16, a.tokens = tokens, a.in_features = in, a.out_features = out;
    a.row_seq = m.put(map), a.x = m.put(x), a.weight = m.put(weight), a.bias = m.put(bias), a.out = m.poisoned<uint16_t>(uint64_t(tokens) * out);
    run(d, l.core.run(d, KL_OP_O_PROJ, a, pdl));
    got = doubles(fetch<uint16_t>(a.out, uint64_t(tokens) * out));
  }
  auto picked = chosen_rows(map, 40);
  std::vector<double> want(uint64_t(tokens) * out);
  ref::parallel(tokens, [&](uint64_t t) {
    if (residual && map[t] < 0) {
      picked[t] = 0;
      for (uint32_t i = 0; i < out; ++i) want[t * out + i] = stream.values[t * out + i];
      return;
    }
    if (picked[t] < 0) return;
    std::vector<double> row(in);
    for (uint32_t i = 0; i < in; ++i) row[i] = ref::of_bf16(x[t * in + i]);
    ref::linear(row.data(), in, weight.data(), bias.data(), out, &want[t * out]);
    if (residual) {
      for (uint32_t i = 0; i < out; ++i) want[t * out + i] += stream.values[t * out + i];
    }
  });
  if (!residual) {
    for (size_t t = 0; t < map.size(); ++t) {
      if (map[t] >= 0 && picked[t] < 0) {
        picked[t] = 0;
        for (uint32_t i = 0; i < out; ++i) got[t * out + i] = want[t * out + i] = 1;
      }
    }
  }
  rows(std::string("o_proj") + (residual ? "_residual" : "") + " tokens " + std::to_string(tokens) + " " + std::to_string(in) + " -> " +
           std::to_string(out) + (residual && f32 ? " f32" : ""),
       got, want, out, picked, residual && f32 ? 1e-5 * 4 : 3e-3, !residual);
  m.clear();
}

inline void router(Device& d, Libraries& l, ref::Random& r, uint32_t tokens, uint32_t hidden, uint32_t experts, uint32_t top_k, bool fused, bool f32) {
  Memory m;
  Stream x(m, r, uint64_t(tokens) * hidden, fused && f32);
  const auto norm_weight = r.bf16s(hidden, 0.3f, 1), weight = r.bf16s(uint64_t(experts) * hidden, 0.05f), bias = r.bf16s(experts, 0.5f);
  auto map = row_map(r, tokens);
  int* ids = m.poisoned<int>(tokens * top_k);
  float* weights = m.poisoned<float>(tokens * top_k);
  uint16_t* normed = m.poisoned<uint16_t>(uint64_t(tokens) * hidden);
  if (fused) {
    kl_norm_router_args a = {};
    a.dtype = KL_BF16, a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.hidden = hidden, a.experts = experts, a.top_k = top_k, a.eps = 1e-5f;
    a.row_seq = m.put(map), a.x = x.device, a.norm_weight = m.put(norm_weight), a.weight = m.put(weight), a.bias = m.put(bias);
    a.normed = normed, a.expert_ids = ids, a.expert_weights = weights;
    run(d, l.core.run(d, KL_OP_NORM_ROUTER, a, pdl));
  } else {
    kl_router_args a = {};
    a.dtype = KL_BF16, a.tokens = tokens, a.hidden = hidden, a.experts = experts, a.top_k = top_k;
    a.row_seq = m.put(map), a.x = x.device, a.weight = m.put(weight), a.bias = m.put(bias), a.expert_ids = ids, a.expert_weights = weights;
    run(d, l.core.run(d, KL_OP_ROUTER, a, pdl));
  }
  const auto got_ids = fetch<int>(ids, tokens * top_k);
  const auto got_weights = fetch<float>(weights, tokens * top_k);
  const auto got_normed = fused ? doubles(fetch<uint16_t>(normed, uint64_t(tokens) * hidden)) : x.values;
  std::vector<double> got(tokens * top_k), want(tokens * top_k), want_normed(uint64_t(tokens) * hidden);
  bool same = true, untouched = true;
  for (uint32_t t = 0; t < tokens; ++t) {
    if (map[t] < 0) {
      for (uint32_t k = 0; k < top_k; ++k) untouched &= got_ids[t * top_k + k] == -1, got[t * top_k + k] = got_weights[t * top_k + k];
      continue;
    }
    if (fused) ref::norm(&x.values[uint64_t(t) * hidden], hidden, norm_weight.data(), 1e-5f, &want_normed[uint64_t(t) * hidden]);
    std::vector<double> logits(experts);
    ref::linear(&got_normed[uint64_t(t) * hidden], hidden, weight.data(), bias.data(), experts, logits.data());
    std::vector<int> order(experts);
    for (uint32_t e = 0; e < experts; ++e) order[e] = e;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    double total = 0;
    for (uint32_t k = 0; k < top_k; ++k) {
      const int id = got_ids[t * top_k + k];
      same &= id == order[k] || (id >= 0 && id < int(experts) && fabs(logits[id] - logits[order[k]]) < 1e-4);
      total += exp(logits[order[k]] - logits[order[0]]);
    }
    for (uint32_t k = 0; k < top_k; ++k) {
      want[t * top_k + k] = exp(logits[order[k]] - logits[order[0]]) / total;
      got[t * top_k + k] = got_weights[t * top_k + k];
    }
  }
  const std::string name = std::string(fused ? "norm_" : "") + "router tokens " + std::to_string(tokens) + " hidden " + std::to_string(hidden) +
                           " experts " + std::to_string(experts) + (fused ? (f32 ? " f32" : " bf16") : "");
  rows(name, got, want, top_k, map, 1e-4);
  if (!same || !untouched) truth(name + ": the chosen experts", false);
  if (fused) rows(name + " normed", got_normed, want_normed, hidden, map, 3e-3);
  m.clear();
}

struct Cache {
  uint32_t kv_heads, stride;
  std::vector<int> context, table;
  std::vector<uint16_t> kv;
  uint32_t pages = 1;
  Cache(ref::Random& r, const std::vector<int>& context_, uint32_t kv_heads_, uint32_t window, uint32_t extra_queries) : kv_heads(kv_heads_), context(context_) {
    int most = 1;
    for (int c : context) most = std::max(most, c);
    stride = most / 64 + 2;
    table.assign(context.size() * stride, -1);
    std::vector<std::pair<uint32_t, uint32_t>> slots;
    for (size_t s = 0; s < context.size(); ++s) {
      const int first = window == 0 ? 0 : std::max(0, context[s] - int(window) - int(extra_queries)) / 64;
      for (int p = first; p < (context[s] + 63) / 64; ++p) slots.push_back({uint32_t(s), uint32_t(p)});
    }
    std::shuffle(slots.begin(), slots.end(), r.engine);
    for (auto [s, p] : slots) table[s * stride + p] = pages++;
    kv.assign(uint64_t(pages) * 2 * kv_heads * 4096, 0xffff);  // positions past the context stay NaN
    for (auto [s, p] : slots) {
      const uint64_t page = table[s * stride + p];
      for (uint32_t half = 0; half < 2; ++half) {
        for (uint32_t h = 0; h < kv_heads; ++h) {
          for (uint32_t row = 0; row < 64 && int(p * 64 + row) < context[s]; ++row) {
            for (uint32_t i = 0; i < 64; ++i) kv[(((page * 2 + half) * kv_heads + h) * 64 + row) * 64 + i] = ref::bf16(r.normal(r.engine) * (half ? 1.0f : 1.2f));
          }
        }
      }
    }
  }
  const uint16_t* row(uint32_t seq, uint32_t half, uint32_t head, int key) const {
    const uint64_t page = table[seq * stride + key / 64];
    return &kv[(((page * 2 + half) * kv_heads + head) * 64 + key % 64) * 64];
  }
};

inline void attention(Device& d, Libraries& l, ref::Random& r, std::vector<int> context, std::vector<int> queries, uint32_t heads,
                      uint32_t kv_heads, uint32_t window, uint32_t slack = 0) {
  Memory m;
  const bool prefill = !queries.empty();
  const uint32_t seqs = context.size();
  std::vector<int> start(seqs + 1, 0);
  for (uint32_t s = 0; s < seqs; ++s) start[s + 1] = start[s] + (prefill ? queries[s] : 1);
  const uint32_t tokens = start[seqs] + slack;
  int most = 1, most_queries = 1;
  for (int c : context) most = std::max(most, c);
  for (int q : queries) most_queries = std::max(most_queries, q);
  Cache cache(r, context, kv_heads, window, most_queries);
  const auto q = r.bf16s(uint64_t(tokens) * heads * 64, 1.2f), sinks = r.bf16s(heads, 2, 1);
  kl_attn_prefill_args a = {};
  a.dtype = a.kv_dtype = KL_BF16, a.tokens = tokens, a.seqs = seqs, a.max_context = most + 100, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = 64;
  a.window = window, a.scale = 0.125f, a.block_table_stride = cache.stride;
  a.context = m.put(context), a.block_table = m.put(cache.table), a.q = m.put(q), a.kv = m.put(cache.kv), a.sinks = m.put(sinks);
  a.out = m.poisoned<uint16_t>(uint64_t(tokens) * heads * 64);
  a.scratch_bytes = uint64_t(seqs) * kv_heads * 32 * 8 * 66 * 4, a.scratch = m.poisoned<uint8_t>(a.scratch_bytes);
  a.state_bytes = 64 + seqs * kv_heads * 4, a.state = m.zeroed(a.state_bytes);
  a.query_start = m.put(start);
  if (prefill) {
    run(d, l.attention.run(d, KL_OP_ATTN_PREFILL, a, pdl));
  } else {
    kl_attn_decode_args b;
    memcpy(static_cast<void*>(&b), &a, sizeof(b));
    run(d, l.attention.run(d, KL_OP_ATTN_DECODE, b, pdl));
    for (uint8_t v : fetch<uint8_t>(a.state, a.state_bytes)) {
      if (v != 0) return truth("attn_decode leaves its state zero", false);
    }
  }
  auto got = doubles(fetch<uint16_t>(a.out, uint64_t(tokens) * heads * 64));
  std::vector<int> map(tokens, -1);
  for (uint32_t s = 0; s < seqs; ++s) {
    for (int t = start[s]; t < start[s + 1]; ++t) map[t] = context[s] > 0 ? int(s) : -1;
  }
  const auto picked = chosen_rows(map, 64);
  std::vector<double> want(uint64_t(tokens) * heads * 64);
  ref::parallel(uint64_t(tokens) * heads, [&](uint64_t i) {
    const uint32_t t = i / heads, h = i % heads, kv_head = h / (heads / kv_heads);
    if (picked[t] < 0) {
      if (map[t] >= 0) {
        for (uint32_t k = 0; k < 64; ++k) got[i * 64 + k] = want[i * 64 + k] = 1;
      }
      return;
    }
    const uint32_t s = map[t];
    const int position = context[s] - (start[s + 1] - int(t));
    std::vector<double> row(64);
    for (uint32_t k = 0; k < 64; ++k) row[k] = ref::of_bf16(q[i * 64 + k]);
    const int begin = window == 0 ? 0 : std::max(0, position + 1 - int(window));
    ref::attend(row.data(), 64, begin, position + 1, [&](int key) { return cache.row(s, 0, kv_head, key); },
                [&](int key) { return cache.row(s, 1, kv_head, key); }, ref::of_bf16(sinks[h]), 0.125, &want[i * 64]);
  });
  std::vector<int> heads_there(uint64_t(tokens) * heads);
  for (uint64_t i = 0; i < heads_there.size(); ++i) heads_there[i] = map[i / heads];
  rows(std::string(prefill ? "attn_prefill" : "attn_decode") + " seqs " + std::to_string(seqs) + " context " + std::to_string(most) +
           (prefill ? " queries " + std::to_string(most_queries) : "") + " heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) +
           " window " + std::to_string(window),
       got, want, 64, heads_there, 8e-3);
  m.clear();
}

struct MoeShape {
  uint32_t hidden, intermediate, experts, top_k;
};
inline void moe(Device& d, Libraries& l, ref::Random& r, const MoeShape& s, uint32_t tokens, bool tiles, bool residual, bool f32, uint32_t begin, uint32_t end) {
  Memory m;
  const uint32_t local = end - begin;
  ref::Mxfp4 up(r, uint64_t(local) * 2 * s.intermediate, s.hidden, 122), down(r, uint64_t(local) * s.hidden, s.intermediate, 121);
  const auto up_dense = up.dense(), down_dense = down.dense();
  const auto up_bias = r.bf16s(uint64_t(local) * 2 * s.intermediate, 1), down_bias = r.bf16s(uint64_t(local) * s.hidden, 0.5f);
  const auto x = r.bf16s(uint64_t(tokens) * s.hidden, 1);
  auto map = row_map(r, tokens);
  std::vector<int> ids(tokens * s.top_k);
  std::vector<float> weights(tokens * s.top_k);
  for (uint32_t t = 0; t < tokens; ++t) {
    float total = 0;
    for (uint32_t k = 0; k < s.top_k; ++k) {
      bool again = true;
      while (again) {
        ids[t * s.top_k + k] = r.below(s.experts);
        again = false;
        for (uint32_t j = 0; j < k; ++j) again |= ids[t * s.top_k + j] == ids[t * s.top_k + k];
      }
      total += weights[t * s.top_k + k] = 0.1f + float(r.below(1000)) / 1000;
    }
    for (uint32_t k = 0; k < s.top_k; ++k) weights[t * s.top_k + k] /= total;
    if (map[t] < 0) {
      for (uint32_t k = 0; k < s.top_k; ++k) ids[t * s.top_k + k] = -1;
    }
  }
  Stream stream(m, r, uint64_t(tokens) * s.hidden, f32, 0.5f);
  kl_moe_residual_args a = {};
  a.dtype = KL_BF16, a.stream_dtype = f32 ? KL_F32 : KL_BF16, a.tokens = tokens, a.hidden = s.hidden, a.intermediate = s.intermediate;
  a.experts = s.experts, a.top_k = s.top_k, a.expert_begin = begin, a.expert_end = end, a.alpha = 1.702f, a.limit = 7;
  a.layout = tiles ? KL_LAYOUT_MXFP4_TILES : KL_LAYOUT_BF16_ROWS;
  a.row_seq = m.put(map), a.x = m.put(x), a.expert_ids = m.put(ids), a.expert_weights = m.put(weights), a.up_bias = m.put(up_bias), a.down_bias = m.put(down_bias);
  if (tiles) {
    const auto prepared = [&](const ref::Mxfp4& w) {
      kl_mxfp4_tiles_args t = {};
      t.rows = w.rows, t.columns = w.columns, t.blocks = m.put(w.blocks), t.scales = m.put(w.scales);
      t.dst = m.poisoned<uint8_t>(w.rows / 8 * ((w.columns + 63) / 64) * 272);
      run(d, l.mxfp4.run(d, KL_OP_MXFP4_TILES, t, pdl));
      return t.dst;
    };
    a.up_weight = prepared(up), a.down_weight = prepared(down);
  } else {
    a.up_weight = m.put(up_dense), a.down_weight = m.put(down_dense);
  }
  a.scratch_bytes = uint64_t(tokens) * s.top_k * (s.intermediate * 2 + s.hidden * 6) + (uint64_t(s.experts) * 128 * s.hidden * 2) * 0 + (8 << 20);
  a.scratch = m.poisoned<uint8_t>(a.scratch_bytes);
  a.state_bytes = 4096, a.state = m.zeroed(a.state_bytes);
  std::vector<double> got;
  const auto& library = tiles ? l.mxfp4 : l.megablocks;
  if (residual) {
    a.stream = stream.device;
    run(d, library.run(d, KL_OP_MOE_RESIDUAL, a, pdl));
    got = stream.now();
  } else {
    kl_moe_args b;
    memcpy(static_cast<void*>(&b), &a, sizeof(b));
    b.out = m.poisoned<uint16_t>(uint64_t(tokens) * s.hidden);
    run(d, library.run(d, KL_OP_MOE, b, pdl));
    got = doubles(fetch<uint16_t>(b.out, uint64_t(tokens) * s.hidden));
  }
  const ref::Experts experts = {s.hidden, s.intermediate, s.top_k, up_dense.data(), up_bias.data(), down_dense.data(), down_bias.data(), 1.702f, 7};
  auto picked = chosen_rows(map, 32);
  std::vector<double> want(uint64_t(tokens) * s.hidden);
  ref::parallel(tokens, [&](uint64_t t) {
    if (map[t] >= 0 && picked[t] < 0) {
      picked[t] = 0;
      for (uint32_t i = 0; i < s.hidden; ++i) got[t * s.hidden + i] = want[t * s.hidden + i] = 1;
      return;
    }
    std::vector<double> row(s.hidden), out(s.hidden);
    for (uint32_t i = 0; i < s.hidden; ++i) row[i] = ref::of_bf16(x[t * s.hidden + i]);
    if (map[t] >= 0) experts.add(row.data(), &ids[t * s.top_k], &weights[t * s.top_k], begin, end, out.data());
    for (uint32_t i = 0; i < s.hidden; ++i) want[t * s.hidden + i] = out[i] + (residual ? stream.values[t * s.hidden + i] : 0);
    if (residual) picked[t] = 0;
  });
  rows(std::string("moe") + (residual ? "_residual" : "") + (tiles ? " mxfp4.tiles" : " bf16.rows") + " tokens " + std::to_string(tokens) + " " +
           std::to_string(s.hidden) + "/" + std::to_string(s.intermediate) + " experts " + std::to_string(begin) + ".." + std::to_string(end) + (residual && f32 ? " f32" : ""),
       got, want, s.hidden, picked, 5e-3, !residual);
  for (uint8_t v : fetch<uint8_t>(a.state, a.state_bytes)) {
    if (v != 0) {
      truth("moe leaves its state zero", false);
      break;
    }
  }
  m.clear();
}

inline void dequantize(Device& d, Libraries& l, ref::Random& r) {
  Memory m;
  ref::Mxfp4 w(r, 37, 96, 124);
  kl_mxfp4_dequantize_args a = {};
  a.rows = w.rows, a.columns = w.columns, a.blocks = m.put(w.blocks), a.scales = m.put(w.scales), a.dst = m.poisoned<uint16_t>(w.rows * w.columns);
  run(d, l.mxfp4.run(d, KL_OP_MXFP4_DEQUANTIZE, a, pdl));
  rows("mxfp4_dequantize", doubles(fetch<uint16_t>(a.dst, w.rows * w.columns)), doubles(w.dense()), w.columns, std::vector<int>(w.rows, 0), 0);
  m.clear();
}

inline void lm_head(Device& d, Libraries& l, ref::Random& r, uint32_t count, uint32_t hidden, uint32_t vocab) {
  Memory m;
  const uint32_t tokens = count + 5;
  const auto x = r.bf16s(uint64_t(tokens) * hidden, 1), weight = r.bf16s(uint64_t(vocab) * hidden, 0.03f);
  std::vector<int> sample(count);
  for (uint32_t i = 0; i < count; ++i) sample[i] = count > 1 && i % 5 == 3 ? -1 : int(r.below(tokens));
  kl_lm_head_args a = {};
  a.dtype = KL_BF16, a.rows = count, a.hidden = hidden, a.vocab = vocab;
  a.sample_rows = m.put(sample), a.x = m.put(x), a.weight = m.put(weight), a.logits = m.poisoned<float>(uint64_t(count) * vocab);
  run(d, l.core.run(d, KL_OP_LM_HEAD, a, pdl));
  std::vector<double> want(uint64_t(count) * vocab);
  ref::parallel(count, [&](uint64_t i) {
    if (sample[i] < 0) return;
    std::vector<double> row(hidden);
    for (uint32_t k = 0; k < hidden; ++k) row[k] = ref::of_bf16(x[uint64_t(sample[i]) * hidden + k]);
    ref::linear(row.data(), hidden, weight.data(), nullptr, vocab, &want[i * vocab]);
  });
  rows("lm_head rows " + std::to_string(count) + " hidden " + std::to_string(hidden) + " vocab " + std::to_string(vocab),
       doubles(fetch<float>(a.logits, want.size())), want, vocab, sample, 1e-5);
  m.clear();
}

inline uint32_t philox24(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {uint32_t(counter), uint32_t(counter >> 32), 0, 0}, k[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  for (int i = 0; i < 10; ++i) {
    const uint64_t a = uint64_t(0xd2511f53u) * c[0], b = uint64_t(0xcd9e8d57u) * c[2];
    const uint32_t n[4] = {uint32_t(b >> 32) ^ c[1] ^ k[0], uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k[1], uint32_t(a)};
    memcpy(c, n, 16);
    k[0] += 0x9e3779b9u, k[1] += 0xbb67ae85u;
  }
  return c[0] >> 8;
}
inline void sample(Device& d, Libraries& l, ref::Random& r, uint32_t vocab) {
  Memory m;
  const uint32_t count = 16;
  auto logits = r.floats(uint64_t(count) * vocab, 2.5f);
  for (uint32_t i = 0; i < 40; ++i) logits[vocab + r.below(vocab)] = 20;  // ties at the top
  std::vector<int> rows_there(count), top_k(count, 0);
  std::vector<float> temperature(count, 0), top_p(count, 1);
  std::vector<uint64_t> seeds(count), counters(count);
  for (uint32_t i = 0; i < count; ++i) {
    rows_there[i] = i == 5 ? -1 : int(i);
    seeds[i] = r.engine(), counters[i] = r.engine();
    if (i >= 2) temperature[i] = i % 2 ? 0.7f : 1.3f;
    if (i % 4 == 2) top_k[i] = 1 + r.below(60);
    if (i % 3 == 1) top_p[i] = 0.9f;
  }
  temperature[15] = 1, top_k[15] = 7, top_p[15] = 0.5f;
  kl_sample_args a = {};
  a.rows = count, a.vocab = vocab, a.sample_rows = m.put(rows_there), a.logits = m.put(logits), a.temperature = m.put(temperature);
  a.top_p = m.put(top_p), a.top_k = m.put(top_k), a.seeds = m.put(seeds), a.counters = m.put(counters);
  a.token_ids = m.poisoned<int>(count), a.logprobs = m.poisoned<float>(count), a.next_token_ids = m.poisoned<int>(count);
  a.scratch_bytes = count * 32 * 16, a.scratch = m.poisoned<uint8_t>(a.scratch_bytes);
  a.state_bytes = 64, a.state = m.zeroed(64);
  run(d, l.core.run(d, KL_OP_SAMPLE, a, pdl));
  const auto ids = fetch<int>(a.token_ids, count), next = fetch<int>(a.next_token_ids, count);
  const auto logprobs = fetch<float>(a.logprobs, count);
  bool good = ids[5] == -1 && next[5] == -1;
  for (uint8_t v : fetch<uint8_t>(a.state, 64)) good &= v == 0;
  int different = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (rows_there[i] < 0) continue;
    const float* row = &logits[uint64_t(i) * vocab];
    std::vector<int> order(vocab);
    for (uint32_t k = 0; k < vocab; ++k) order[k] = k;
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return row[x] > row[y]; });
    double total = 0;
    for (uint32_t k = 0; k < vocab; ++k) total += exp(double(row[k]) - row[order[0]]);
    int want = order[0];
    if (temperature[i] > 0) {
      double all = 0, sum = 0;
      for (uint32_t k = 0; k < vocab; ++k) all += exp((double(row[k]) - row[order[0]]) / temperature[i]);
      std::vector<double> sums;
      for (uint32_t k = 0; k < vocab && (top_k[i] == 0 || int(k) < top_k[i]); ++k) {
        sums.push_back(sum += exp((double(row[order[k]]) - row[order[0]]) / temperature[i]) / all);
        if (top_p[i] < 1 && sum >= top_p[i]) break;
      }
      const double u = philox24(seeds[i], counters[i]) / 16777216.0;
      size_t k = 0;
      while (k + 1 < sums.size() && sums[k] <= u * sum) ++k;
      want = order[k];
    }
    if (ids[i] != want) {
      ++different;
      printf("     row %u: temperature %.1f top_k %d top_p %.1f: %d, expected %d\n", i, temperature[i], top_k[i], top_p[i], ids[i], want);
    }
    good &= ids[i] >= 0 && ids[i] < int(vocab) && next[i] == ids[i];
    if (good) good &= fabs(logprobs[i] - (double(row[ids[i]]) - row[order[0]] - log(total))) < 1e-4;
  }
  truth("sample vocab " + std::to_string(vocab) + ": " + std::to_string(different) + " of 15 tokens differ", good && different == 0);
  m.clear();
}

inline void moves(Device& d, Libraries& l, ref::Random& r) {
  Memory m;
  kl_transpose_experts_args t = {};
  t.experts = 3, t.rows = 70, t.columns = 45;
  const auto src = r.bf16s(3 * 70 * 45, 1);
  t.src = m.put(src), t.dst = m.poisoned<uint16_t>(src.size());
  run(d, l.core.run(d, KL_OP_TRANSPOSE_EXPERTS, t, pdl));
  const auto got = fetch<uint16_t>(t.dst, src.size());
  bool good = true;
  for (int e = 0; e < 3; ++e) {
    for (int i = 0; i < 70; ++i) {
      for (int j = 0; j < 45; ++j) good &= got[(e * 45 + j) * 70 + i] == src[(e * 70 + i) * 45 + j];
    }
  }
  truth("transpose_experts", good);
  for (uint64_t bytes : {96u, 77u}) {
    std::vector<uint8_t> from(50 * 112);
    for (auto& v : from) v = uint8_t(r.engine());
    kl_copy_rows_args c = {};
    c.rows = 50, c.row_bytes = bytes, c.src_stride = 112, c.dst_stride = 128;
    c.src = m.put(from), c.dst = m.poisoned<uint8_t>(50 * 128);
    run(d, l.core.run(d, KL_OP_COPY_ROWS, c, pdl));
    const auto to = fetch<uint8_t>(c.dst, 50 * 128);
    good = true;
    for (int i = 0; i < 50; ++i) {
      for (uint64_t j = 0; j < 128; ++j) good &= to[i * 128 + j] == (j < bytes ? from[i * 112 + j] : 0xff);
    }
    truth("copy_rows of " + std::to_string(bytes) + " bytes", good);
  }
  m.clear();
}

}  // namespace check
