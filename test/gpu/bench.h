// Times at the gpt-oss-20b shape: every op alone over 24 layers' own weights, then whole decode steps and prefills as CUDA
// graphs. Floors: bytes / 3.0 TB/s or operations / 798 TFLOP/s, whichever is larger.
#pragma once
#include "check.h"

namespace bench {
using gpu::Device;
using gpu::Memory;

constexpr uint32_t layers = 24, hidden = 2880, heads = 64, kv_heads = 8, experts = 32, top_k = 4, vocab = 201088;
constexpr uint32_t features = (heads + 2 * kv_heads) * 64, attention_width = heads * 64, window = 128;
constexpr uint64_t up_tiles = uint64_t(experts) * 720 * 45 * 272, down_tiles = uint64_t(experts) * 360 * 45 * 272;

struct Layer {
  uint16_t *norm, *qkv, *qkv_bias, *sinks, *o, *o_bias, *norm2, *router, *router_bias, *up_bias, *down_bias, *up_dense = nullptr, *down_dense = nullptr;
  uint8_t *up, *down;
  uint16_t* kv;
};

// Fills device memory from a random pool, at a different place each time.
struct Filler {
  Memory& m;
  std::vector<uint16_t> pool;
  CUdeviceptr dense, tiles;
  uint64_t dense_bytes, tiles_bytes, turn = 0;
  Filler(Memory& memory, ref::Random& r) : m(memory) {
    pool = r.bf16s(16 << 20, 1);
    std::vector<uint16_t> scaled(pool.size());
    for (size_t i = 0; i < pool.size(); ++i) scaled[i] = ref::bf16(ref::of_bf16(pool[i]) * 0.02f);
    dense = reinterpret_cast<CUdeviceptr>(m.put(scaled)), dense_bytes = scaled.size() * 2;
    std::vector<uint8_t> t(uint64_t(272) * 120000);
    for (auto& v : t) v = uint8_t(r.engine() >> 11);
    for (size_t i = 0; i < t.size(); i += 272) {
      for (int k = 256; k < 272; ++k) t[i + k] = uint8_t(94 + 119 + t[i + k] % 3);
    }
    tiles = reinterpret_cast<CUdeviceptr>(m.put(t)), tiles_bytes = t.size();
  }
  void* fill(uint64_t bytes, bool tiled) {
    void* p = m.take(bytes);
    const CUdeviceptr from = tiled ? tiles : dense;
    const uint64_t size = tiled ? tiles_bytes : dense_bytes;
    uint64_t at = (turn++ * 7919 * 272) % size / 272 * 272;
    for (uint64_t done = 0; done < bytes;) {
      const uint64_t n = std::min(bytes - done, size - at);
      CU(cuMemcpyDtoD, reinterpret_cast<CUdeviceptr>(p) + done, from + at, n);
      done += n, at = 0;
    }
    return p;
  }
  uint16_t* bf16(uint64_t n) { return static_cast<uint16_t*>(fill(n * 2, false)); }
};

struct Model {
  Memory m;
  ref::Random r{99};
  Filler filler{m, r};
  Layer layer[layers];
  uint16_t *embedding, *final_norm, *head;
  float* inv;
  Model(bool dense_experts) {
    final_norm = m.put(r.bf16s(hidden, 0.1f, 1));
    for (Layer& l : layer) {
      l.norm = final_norm, l.norm2 = final_norm;
      l.qkv = filler.bf16(uint64_t(features) * hidden), l.qkv_bias = filler.bf16(features), l.sinks = filler.bf16(heads);
      l.o = filler.bf16(uint64_t(hidden) * attention_width), l.o_bias = filler.bf16(hidden);
      l.router = filler.bf16(uint64_t(experts) * hidden), l.router_bias = filler.bf16(experts);
      l.up_bias = filler.bf16(experts * 5760), l.down_bias = filler.bf16(experts * hidden);
      l.up = static_cast<uint8_t*>(filler.fill(up_tiles, true)), l.down = static_cast<uint8_t*>(filler.fill(down_tiles, true));
      if (dense_experts) {
        l.up_dense = filler.bf16(uint64_t(experts) * 5760 * hidden), l.down_dense = filler.bf16(uint64_t(experts) * hidden * hidden);
      }
    }
    embedding = filler.bf16(uint64_t(vocab) * hidden), head = filler.bf16(uint64_t(vocab) * hidden);
    inv = m.put(check::inverse_frequencies());
  }
};

// The arrays of one step: B sequences of one query row each (decode) or one sequence of `tokens` rows (prefill).
struct Step {
  Memory m;
  uint32_t tokens, seqs, rows, context, stride;
  int *row_seq, *positions, *ids, *table[2], *contexts, *sample_rows, *starts, *expert_ids, *token_ids, *sample_top_k;
  float *expert_weights, *logits, *logprobs, *temperature, *top_p;
  uint64_t *seeds, *counters;
  uint16_t *normed, *q, *attended;
  void* stream;
  uint8_t *scratch, *state;
  uint64_t scratch_bytes = 512 << 20, state_bytes = 1 << 20;
  uint32_t pages;

  Step(Model& model, uint32_t seqs_, uint32_t tokens_, uint32_t context_) : tokens(tokens_), seqs(seqs_), rows(seqs_), context(context_) {
    const uint32_t per = tokens / seqs;
    stride = context / 64 + 2;
    std::vector<int> rs(tokens), po(tokens), tok(tokens), tb(seqs * stride), cx(seqs, context), sr(seqs), st(seqs + 1);
    for (uint32_t s = 0; s <= seqs; ++s) st[s] = s * per;
    for (uint32_t t = 0; t < tokens; ++t) rs[t] = t / per, po[t] = context - per + t % per, tok[t] = model.r.below(vocab);
    pages = seqs * stride;
    for (uint32_t i = 0; i < pages; ++i) tb[i] = i;
    std::shuffle(tb.begin(), tb.end(), model.r.engine);
    for (uint32_t s = 0; s < seqs; ++s) sr[s] = (s + 1) * per - 1;
    row_seq = m.put(rs), positions = m.put(po), ids = m.put(tok), table[0] = table[1] = m.put(tb), contexts = m.put(cx), sample_rows = m.put(sr), starts = m.put(st);
    const uint64_t cache = uint64_t(pages) * 2 * kv_heads * 4096;
    Filler& f = model.filler;
    for (Layer& l : model.layer) {
      l.kv = static_cast<uint16_t*>(m.take(cache * 2));
      for (uint64_t done = 0; done < cache * 2; done += f.dense_bytes) {
        CU(cuMemcpyDtoD, reinterpret_cast<CUdeviceptr>(l.kv) + done, f.dense, std::min(f.dense_bytes, cache * 2 - done));
      }
    }
    expert_ids = static_cast<int*>(m.take(tokens * top_k * 4)), expert_weights = static_cast<float*>(m.take(tokens * top_k * 4));
    logits = static_cast<float*>(m.take(uint64_t(rows) * vocab * 4)), logprobs = static_cast<float*>(m.take(rows * 4)), token_ids = static_cast<int*>(m.take(rows * 4));
    temperature = m.put(std::vector<float>(rows, 0)), top_p = m.put(std::vector<float>(rows, 1)), sample_top_k = m.put(std::vector<int>(rows, 0));
    seeds = m.put(std::vector<uint64_t>(rows, 1)), counters = m.put(std::vector<uint64_t>(rows, 1));
    normed = m.put(model.r.bf16s(uint64_t(tokens) * hidden, 1)), q = m.put(model.r.bf16s(uint64_t(tokens) * attention_width, 1)), attended = m.put(model.r.bf16s(uint64_t(tokens) * attention_width, 1));
    stream = m.put(model.r.bf16s(uint64_t(tokens) * hidden, 1));
    scratch = m.zeroed(scratch_bytes), state = m.zeroed(state_bytes);
  }
};

struct Runner {
  Device& d;
  check::Libraries& l;
  Model& model;
  Step& s;
  bool pdl, dense = false;
  uint32_t mask = ~0u;  // which ops of a step launch dependently: 1 qkv, 2 attention, 4 o_proj, 8 router, 16 experts, 32 the rest

  void must(kl_status status, const char* what) {
    if (status != KL_OK) {
      printf("%s: status %d\n", what, status);
      exit(1);
    }
  }
  template <class A>
  void workspace(A& a) {
    a.scratch = s.scratch, a.scratch_bytes = s.scratch_bytes, a.state = s.state, a.state_bytes = s.state_bytes;
  }
  void embed() {
    kl_embed_args a = {};
    a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.vocab = vocab, a.row_seq = s.row_seq, a.token_ids = s.ids, a.weight = model.embedding, a.out = s.stream;
    must(l.core.run(d, KL_OP_EMBED, a, pdl && mask & 32), "embed");
  }
  void norm() {
    kl_rmsnorm_args a = {};
    a.dtype = a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.eps = 1e-5f, a.row_seq = s.row_seq, a.x = s.stream, a.weight = model.final_norm, a.out = s.normed;
    must(l.norm.run(d, KL_OP_RMSNORM, a, pdl && mask & 32), "rmsnorm");
  }
  void qkv(const Layer& w) {
    kl_qkv_rope_kv_args a = {};
    a.dtype = a.kv_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = 64, a.rope_scale = 1.35f;
    a.block_table_stride = s.stride, a.row_seq = s.row_seq, a.positions = s.positions, a.block_table = s.table[0], a.x = s.normed, a.weight = w.qkv;
    a.bias = w.qkv_bias, a.inv_freq = model.inv, a.q = s.q, a.kv = w.kv;
    must(l.core.run(d, KL_OP_QKV_ROPE_KV, a, pdl), "qkv");
  }
  void norm_qkv(const Layer& w) {
    kl_norm_qkv_rope_kv_args a = {};
    a.dtype = a.kv_dtype = a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = 64, a.eps = 1e-5f, a.rope_scale = 1.35f;
    a.block_table_stride = s.stride, a.row_seq = s.row_seq, a.positions = s.positions, a.block_table = s.table[0], a.x = s.stream, a.norm_weight = w.norm, a.weight = w.qkv;
    a.bias = w.qkv_bias, a.inv_freq = model.inv, a.q = s.q, a.kv = w.kv;
    must(l.core.run(d, KL_OP_NORM_QKV_ROPE_KV, a, pdl && mask & 1), "norm_qkv");
  }
  template <class A>
  void attention_args(A& a, const Layer& w, uint32_t window_) {
    a.dtype = a.kv_dtype = KL_BF16, a.tokens = s.tokens, a.seqs = s.seqs, a.max_context = s.context, a.heads = heads, a.kv_heads = kv_heads, a.head_dim = 64, a.window = window_;
    a.scale = 0.125f, a.block_table_stride = s.stride, a.context = s.contexts, a.block_table = s.table[0], a.q = s.q, a.kv = w.kv, a.sinks = w.sinks, a.out = s.attended;
    workspace(a);
  }
  void attention(const Layer& w, uint32_t window_) {
    if (s.tokens == s.seqs) {
      kl_attn_decode_args a = {};
      attention_args(a, w, window_);
      must(l.attention.run(d, KL_OP_ATTN_DECODE, a, pdl && mask & 2), "attn_decode");
    } else {
      kl_attn_prefill_args a = {};
      attention_args(a, w, window_);
      a.query_start = s.starts;
      must(l.attention.run(d, KL_OP_ATTN_PREFILL, a, pdl), "attn_prefill");
    }
  }
  void o_proj(const Layer& w) {
    kl_o_proj_residual_args a = {};
    a.dtype = a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.in_features = attention_width, a.out_features = hidden, a.row_seq = s.row_seq, a.x = s.attended, a.weight = w.o, a.bias = w.o_bias, a.stream = s.stream;
    must(l.core.run(d, KL_OP_O_PROJ_RESIDUAL, a, pdl && mask & 4), "o_proj");
  }
  void norm_router(const Layer& w) {
    kl_norm_router_args a = {};
    a.dtype = a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.experts = experts, a.top_k = top_k, a.eps = 1e-5f, a.row_seq = s.row_seq, a.x = s.stream;
    a.norm_weight = w.norm2, a.weight = w.router, a.bias = w.router_bias, a.normed = s.normed, a.expert_ids = s.expert_ids, a.expert_weights = s.expert_weights;
    must(l.core.run(d, KL_OP_NORM_ROUTER, a, pdl && mask & 8), "norm_router");
  }
  void moe(const Layer& w) {
    kl_moe_residual_args a = {};
    a.dtype = a.stream_dtype = KL_BF16, a.tokens = s.tokens, a.hidden = hidden, a.intermediate = hidden, a.experts = experts, a.top_k = top_k, a.expert_end = experts, a.alpha = 1.702f, a.limit = 7;
    a.layout = dense ? KL_LAYOUT_BF16_ROWS : KL_LAYOUT_MXFP4_TILES, a.row_seq = s.row_seq, a.x = s.normed, a.expert_ids = s.expert_ids, a.expert_weights = s.expert_weights;
    a.up_weight = dense ? static_cast<void*>(w.up_dense) : w.up, a.down_weight = dense ? static_cast<void*>(w.down_dense) : w.down, a.up_bias = w.up_bias, a.down_bias = w.down_bias, a.stream = s.stream;
    workspace(a);
    must((dense ? l.megablocks : l.mxfp4).run(d, KL_OP_MOE_RESIDUAL, a, pdl && mask & 16), "moe");
  }
  void lm_head() {
    kl_lm_head_args a = {};
    a.dtype = KL_BF16, a.rows = s.rows, a.hidden = hidden, a.vocab = vocab, a.sample_rows = s.sample_rows, a.x = s.normed, a.weight = model.head, a.logits = s.logits;
    must(l.core.run(d, KL_OP_LM_HEAD, a, pdl && mask & 32), "lm_head");
  }
  void sample() {
    kl_sample_args a = {};
    a.rows = s.rows, a.vocab = vocab, a.sample_rows = s.sample_rows, a.logits = s.logits, a.temperature = s.temperature, a.top_p = s.top_p, a.top_k = s.sample_top_k;
    a.seeds = s.seeds, a.counters = s.counters, a.token_ids = s.token_ids, a.logprobs = s.logprobs;
    workspace(a);
    must(l.core.run(d, KL_OP_SAMPLE, a, pdl && mask & 32), "sample");
  }
  void layer(uint32_t i) {
    const Layer& w = model.layer[i];
    if (s.tokens <= 8) {
      norm_qkv(w);
    } else {
      norm();
      qkv(w);
    }
    attention(w, i % 2 == 0 ? window : 0);
    o_proj(w);
    norm_router(w);
    moe(w);
  }
  void step() {
    embed();
    for (uint32_t i = 0; i < layers; ++i) layer(i);
    norm();
    lm_head();
    sample();
  }

  // Median microseconds of a graph of what `body` launches.
  double time(const std::function<void()>& body, int repeats = 21) {
    CUgraph graph;
    CUgraphExec exec;
    CU(cuStreamBeginCapture, d.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    body();
    CU(cuStreamEndCapture, d.stream, &graph);
    CU(cuGraphInstantiateWithFlags, &exec, graph, 0);
    CUevent start, stop;
    CU(cuEventCreate, &start, 0);
    CU(cuEventCreate, &stop, 0);
    std::vector<float> times;
    for (int i = 0; i < repeats + 3; ++i) {
      CU(cuEventRecord, start, d.stream);
      CU(cuGraphLaunch, exec, d.stream);
      CU(cuEventRecord, stop, d.stream);
      CU(cuEventSynchronize, stop);
      float ms;
      CU(cuEventElapsedTime, &ms, start, stop);
      if (i >= 3) times.push_back(ms * 1000);
    }
    CU(cuGraphExecDestroy, exec);
    CU(cuGraphDestroy, graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

inline double distinct(const std::vector<int>& ids) {
  std::vector<bool> seen(experts);
  int n = 0;
  for (int id : ids) {
    if (id >= 0 && !seen[id]) seen[id] = true, ++n;
  }
  return n;
}

inline void one(Device& d, check::Libraries& l, Model& model, uint32_t seqs, uint32_t tokens, uint32_t context, bool dense) {
  Step s(model, seqs, tokens, context);
  Runner plain{d, l, model, s, false, dense}, run{d, l, model, s, true, dense};
  // The experts of the layer that is timed alone, and the mean over the layers of a whole step.
  const auto route = [&] {
    run.embed();
    run.norm_router(model.layer[0]);
    d.sync();
    return distinct(gpu::fetch<int>(s.expert_ids, tokens * top_k));
  };
  const double hit = route();
  run.embed();
  double mean_hit = 0;
  for (uint32_t i = 0; i < layers; ++i) {
    run.layer(i);
    d.sync();
    mean_hit += distinct(gpu::fetch<int>(s.expert_ids, tokens * top_k)) / layers;
  }
  const auto floor = [](double bytes, double flops) { return std::max(bytes / 3.0e6, flops / 798e6); };
  const double t = tokens;
  const double moe_bytes = dense ? hit * 3.0 * 2880 * 2880 * 2 : hit * (up_tiles + down_tiles) / experts;
  struct Part {
    const char* name;
    double floor;
    std::function<void(Runner&, const Layer&)> body;
  };
  const bool small = tokens <= 8;
  const double per = double(tokens) / seqs, pairs_full = (context - per / 2) * t, pairs_window = std::min<double>(context, 128) * t;
  const auto attention_floor = [&](double keys, double pairs) { return floor(seqs * keys * 2048.0 + t * 4096 * 4, pairs * 64 * 64 * 4); };
  const std::vector<Part> parts = {
      {small ? "norm_qkv_rope_kv" : "qkv_rope_kv", floor(29.5e6 + t * (5760 + 10240), t * 2 * 5120 * 2880), [&](Runner& r, const Layer& w) { small ? r.norm_qkv(w) : r.qkv(w); }},
      {"attn window 128", attention_floor(std::min<double>(context, 128 + per), pairs_window), [](Runner& r, const Layer& w) { r.attention(w, window); }},
      {"attn full", attention_floor(context, pairs_full), [](Runner& r, const Layer& w) { r.attention(w, 0); }},
      {"o_proj_residual", floor(23.6e6 + t * (8192 + 11520), t * 2 * 4096 * 2880), [](Runner& r, const Layer& w) { r.o_proj(w); }},
      {"norm_router", floor(0.184e6 + t * 11520, 0), [](Runner& r, const Layer& w) { r.norm_router(w); }},
      {dense ? "moe_residual bf16" : "moe_residual mxfp4", floor(moe_bytes + t * 11520, t * 4 * 2 * 3 * 2880.0 * 2880), [](Runner& r, const Layer& w) { r.moe(w); }},
      {"rmsnorm", floor(t * 11520, 0), [](Runner& r, const Layer&) { r.norm(); }},
  };
  printf("\n%u sequences, %u tokens, context %u, %s experts; distinct experts: %.0f of 32 in the first layer (as for moe alone), %.1f in the mean of a step\n", seqs, tokens, context, dense ? "bf16" : "mxfp4", hit, mean_hit);
  printf("  %-22s %9s %9s %9s  share of floor\n", "us a launch", "floor", "graph", "pdl");
  double sum = 0;
  for (const Part& p : parts) {
    if (p.name[0] == 'm') route();  // timing o_proj and the router changed the stream
    const auto loop = [&](Runner& r) { return r.time([&] { for (const Layer& w : model.layer) p.body(r, w); }, tokens > 1000 ? 7 : 15) / layers; };
    const double a = loop(plain), b = loop(run);
    printf("  %-22s %9.2f %9.2f %9.2f  %4.0f %%\n", p.name, p.floor, a, b, 100 * p.floor / std::min(a, b));
    sum += p.name[0] == 'a' ? p.floor / 2 : std::string(p.name) == "rmsnorm" ? 0 : p.floor;
  }
  const double head_floor = floor(1.158e9 + seqs * 8.0e5, seqs * 2.0 * vocab * hidden);
  const double head = run.time([&] { run.lm_head(); }), sampling = run.time([&] { run.sample(); });
  printf("  %-22s %9.2f %9s %9.2f  %4.0f %%\n  %-22s %9.2f %9s %9.2f\n", "lm_head", head_floor, "", head, 100 * head_floor / head, "sample", seqs * 804352 / 3.0e6, "", sampling);
  const double one_expert = dense ? 3.0 * 2880 * 2880 * 2 : double(up_tiles + down_tiles) / experts;
  const double moe_flops = t * 4 * 2 * 3 * 2880.0 * 2880;
  sum += floor(mean_hit * one_expert + t * 11520, moe_flops) - floor(hit * one_expert + t * 11520, moe_flops);
  const double total_floor = sum * layers + head_floor;
  const double a = plain.time([&] { plain.step(); }, 11), b = run.time([&] { run.step(); }, 11);
  printf("  step: floor %.0f us (%.0f tok/s), graph %.0f us (%.0f tok/s), graph + PDL %.0f us (%.0f tok/s, %.0f %% of the floor)\n", total_floor, 1e6 * t / total_floor, a, 1e6 * t / a, b,
         1e6 * t / b, 100 * total_floor / b);
  if (tokens == 1) {
    printf("  step, us, by the ops that may launch dependently (1 qkv, 2 attention, 4 o_proj, 8 router, 16 experts, 32 the rest):");
    for (uint32_t mask : {0u, 32u, 1u, 2u, 4u, 8u, 16u, 12u, 28u, 20u, 31u, 30u}) {
      run.mask = mask;
      printf(" %u: %.0f", mask, run.time([&] { run.step(); }, 15));
    }
    printf("\n");
  }
  fflush(stdout);
  s.m.clear();
}

}  // namespace bench
