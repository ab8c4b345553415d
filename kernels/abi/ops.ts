/**
 * Every operation a kernel package may implement, declared once.
 *
 * From this table come `ops.h` (the C argument structs), the argument encoders of `encode.ts` and `docs/abi.md`.
 * Activations have the dtype given in `dtype`, the residual stream the one in `stream_dtype`, the cache the one in
 * `kv_dtype`; "act", "stream" and "kv" stand for them in shapes. Weights are bf16 unless a layout says otherwise.
 *
 * Rules that hold for every op:
 * - Sizes named here are bucket sizes: grids depend on them only. What really runs is read from device arrays.
 * - A row whose `row_seq` is -1 (a sampling row whose `sample_rows` is -1, a sequence whose `context` is 0) is a no-op:
 *   nothing is read for it and nothing of it is written.
 * - Ops create no threads, allocate nothing, never synchronise, and keep no state outside their instance.
 */

/** Semantic nodes of a gpt-oss model, in the order in which one layer runs them. */
export const nodes = [
  "embed",
  "norm",
  "qkv",
  "rope",
  "kv_write",
  "attn",
  "o_proj",
  "residual",
  "router",
  "moe_up",
  "moe_down",
  "lm_head",
  "sample",
] as const;
export type Node = (typeof nodes)[number];

/** Element types, with the numbers they have in C (`KL_F32` and so on). */
export const dtypes = { f32: 0, bf16: 1, u8: 2, i32: 3, i64: 4 } as const;
export type Dtype = keyof typeof dtypes;

/**
 * Weight layouts, with the numbers they have in C.
 * `bf16.rows`: row-major bf16, [out, in] (experts: [expert, out, in]).
 * `mxfp4.rows`: the released layout: blocks u8 [expert, out, in/32, 16] (low nibble first) and E8M0 scales u8 [expert, out, in/32].
 * `mxfp4.tiles`: codes and scales together, for tensor cores: u8 [expert, out/8, ceil(in/64), 272]; a tile is 8 rows by 64
 * columns, written by `mxfp4_tiles`, which says how. The scales pointers are null.
 */
export const layouts = { "bf16.rows": 0, "mxfp4.rows": 1, "mxfp4.tiles": 2 } as const;
export type Layout = keyof typeof layouts;

/** Sizes that limits and workspace rules in `variant.json` may name. `workers` is the number of CPU threads. */
export const dims = [
  "tokens",
  "seqs",
  "rows",
  "max_context",
  "workers",
  "hidden",
  "intermediate",
  "heads",
  "kv_heads",
  "head_dim",
  "experts",
  "top_k",
  "vocab",
] as const;
export type Dim = (typeof dims)[number];

export type Access = "in" | "out" | "inout" | "scratch" | "state";
export type Scalar = "u32" | "i32" | "f32" | "u64";

export type Field =
  | { readonly name: string; readonly kind: Scalar; readonly doc: string }
  | {
      readonly name: string;
      readonly kind: "ptr";
      /** Element type and shape, for people: `i32[tokens]`. */
      readonly shape: string;
      readonly access: Access;
      readonly nullable: boolean;
      readonly doc: string;
    };

const scalar =
  <K extends Scalar>(kind: K) =>
  <N extends string>(name: N, doc: string) =>
    ({ name, kind, doc }) as const;
const u32 = scalar("u32");
const f32 = scalar("f32");
const u64 = scalar("u64");
const pointer =
  <A extends Access, L extends boolean>(access: A, nullable: L) =>
  <N extends string, S extends string>(name: N, shape: S, doc = "") =>
    ({ name, kind: "ptr", shape, access, nullable, doc }) as const;
const input = pointer("in", false);
const optional = pointer("in", true);
const output = pointer("out", false);
const optionalOutput = pointer("out", true);
const inout = pointer("inout", false);

const tokens = u32("tokens", "bucket: token rows of this launch");
const seqs = u32("seqs", "bucket: sequences of this launch");
const dtype = u32("dtype", "activation dtype");
const streamDtype = u32("stream_dtype", "dtype of the residual stream");
const kvDtype = u32("kv_dtype", "dtype of the KV cache");
const hidden = u32("hidden", "width of the residual stream");
const rowSeq = input("row_seq", "i32[tokens]", "sequence of each row, -1 for a row that is not there");
const workspace = [
  pointer("scratch", true)("scratch", "u8[scratch_bytes]", "undefined on entry"),
  u64("scratch_bytes", "at least what variant.json's rule gives"),
  pointer("state", true)(
    "state",
    "u8[state_bytes]",
    "zeroed once when the program is built; left zero by every launch",
  ),
  u64("state_bytes", "at least what variant.json's rule gives"),
] as const;
const attention = [
  dtype,
  kvDtype,
  tokens,
  seqs,
  u32("max_context", "bucket: no context of this launch is longer"),
  u32("heads", "query heads; query head h reads kv head floor(h / (heads / kv_heads))"),
  u32("kv_heads", "key and value heads"),
  u32("head_dim", "width of a head"),
  u32("window", "keys a query may see, itself included; 0 for all"),
  f32("scale", "factor on q.k, 1/sqrt(head_dim)"),
  u32("block_table_stride", "entries per row of block_table"),
  input("context", "i32[seqs]", "keys of each sequence, those of this step included; 0: no such sequence"),
  input("block_table", "i32[seqs, block_table_stride]", "page of each 64 positions, by absolute position; -1: freed"),
  input("q", "act[tokens, heads, head_dim]", "already rotated"),
  input(
    "kv",
    "kv[page, 2, kv_heads, 64, head_dim]",
    "this layer's pages (layout paged64.hnd), this step's keys included",
  ),
  input("sinks", "bf16[heads]", "one raw logit per head that takes probability and has no value"),
  output("out", "act[tokens, heads, head_dim]"),
  ...workspace,
] as const;
const projection = [
  dtype,
  streamDtype,
  tokens,
  u32("in_features", "columns of the weight"),
  u32("out_features", "rows of the weight"),
  rowSeq,
  input("x", "act[tokens, in_features]"),
  input("weight", "bf16[out_features, in_features]"),
  optional("bias", "bf16[out_features]"),
] as const;
const moe = [
  dtype,
  streamDtype,
  tokens,
  hidden,
  u32("intermediate", "width of an expert's hidden layer"),
  u32("experts", "experts of the layer; ids run over all of them"),
  u32("top_k", "experts chosen per token"),
  u32("expert_begin", "first expert held here; pairs outside the range add nothing"),
  u32("expert_end", "one past the last expert held here"),
  u32("partial", "1: biases and outputs of absent experts are left to other ranks, the result is a partial sum"),
  u32("layout", "weight layout of up_weight and down_weight"),
  f32("alpha", "SwiGLU: gate * sigmoid(alpha * gate) * (up + 1)"),
  f32("limit", "SwiGLU: gate is clamped from above, up from both sides"),
  rowSeq,
  input("x", "act[tokens, hidden]"),
  input("expert_ids", "i32[tokens, top_k]"),
  input("expert_weights", "f32[tokens, top_k]"),
  input("up_weight", "layout[expert_end - expert_begin, 2 * intermediate, hidden]", "gate rows are even, up rows odd"),
  optional("up_scales", "u8[expert_end - expert_begin, 2 * intermediate, hidden / 32]", "E8M0; MXFP4 layouts only"),
  input("up_bias", "bf16[expert_end - expert_begin, 2 * intermediate]"),
  input("down_weight", "layout[expert_end - expert_begin, hidden, intermediate]"),
  optional("down_scales", "u8[expert_end - expert_begin, hidden, intermediate / 32]", "E8M0; MXFP4 layouts only"),
  input("down_bias", "bf16[expert_end - expert_begin, hidden]"),
] as const;

export interface OpSpec {
  /** The nodes this op runs, in order. Empty for ops that prepare weights or move data. */
  readonly covers: readonly Node[];
  readonly summary: string;
  readonly fields: readonly Field[];
}
const op = <const S extends OpSpec>(spec: S): S => spec;

export const ops = {
  embed: op({
    covers: ["embed"],
    summary: "out[t] = weight[token_ids[t]]",
    fields: [
      streamDtype,
      tokens,
      hidden,
      u32("vocab", "rows of the table"),
      rowSeq,
      input("token_ids", "i32[tokens]"),
      input("weight", "bf16[vocab, hidden]"),
      output("out", "stream[tokens, hidden]"),
    ],
  }),
  rmsnorm: op({
    covers: ["norm"],
    summary: "out = x * rsqrt(mean(x^2) + eps) * weight, in f32, cast last",
    fields: [
      dtype,
      streamDtype,
      tokens,
      hidden,
      f32("eps", "added to the mean square"),
      rowSeq,
      input("x", "stream[tokens, hidden]"),
      input("weight", "bf16[hidden]"),
      output("out", "act[tokens, hidden]"),
    ],
  }),
  qkv_rope_kv: op({
    covers: ["qkv", "rope", "kv_write"],
    summary: "q, k, v = x W^T + b; q and k rotated (half-split RoPE); k and v written to the paged cache",
    fields: [
      dtype,
      kvDtype,
      tokens,
      hidden,
      u32("heads", "query heads"),
      u32("kv_heads", "key and value heads"),
      u32("head_dim", "width of a head"),
      f32("rope_scale", "factor on both cosine and sine (YaRN: 0.1 ln(factor) + 1)"),
      u32("block_table_stride", "entries per row of block_table"),
      rowSeq,
      input("positions", "i32[tokens]"),
      input(
        "block_table",
        "i32[seqs, block_table_stride]",
        "page of each 64 positions, by absolute position; -1: freed",
      ),
      input("x", "act[tokens, hidden]"),
      input("weight", "bf16[(heads + 2 * kv_heads) * head_dim, hidden]", "rows of q, then k, then v"),
      input("bias", "bf16[(heads + 2 * kv_heads) * head_dim]"),
      input("inv_freq", "f32[head_dim / 2]"),
      output("q", "act[tokens, heads, head_dim]"),
      inout("kv", "kv[page, 2, kv_heads, 64, head_dim]", "this layer's pages (layout paged64.hnd)"),
    ],
  }),
  attn_prefill: op({
    covers: ["attn"],
    summary: "causal attention with sinks for sequences of any number of query rows",
    fields: [
      ...attention,
      input("query_start", "i32[seqs + 1]", "first row of each sequence; its rows are the last ones of its context"),
    ],
  }),
  attn_decode: op({
    covers: ["attn"],
    summary: "causal attention with sinks, one query row per sequence: row i belongs to sequence i",
    fields: attention,
  }),
  o_proj: op({
    covers: ["o_proj"],
    summary: "out = x W^T + b",
    fields: [...projection, output("out", "act[tokens, out_features]")],
  }),
  o_proj_residual: op({
    covers: ["o_proj", "residual"],
    summary: "stream += x W^T + b",
    fields: [...projection, inout("stream", "stream[tokens, out_features]")],
  }),
  residual: op({
    covers: ["residual"],
    summary: "stream += x",
    fields: [
      dtype,
      streamDtype,
      tokens,
      hidden,
      rowSeq,
      input("x", "act[tokens, hidden]"),
      inout("stream", "stream[tokens, hidden]"),
    ],
  }),
  router: op({
    covers: ["router"],
    summary: "the top_k largest of x W^T + b (lowest id first on ties) and the softmax over just those",
    fields: [
      dtype,
      tokens,
      hidden,
      u32("experts", "rows of the weight"),
      u32("top_k", "experts chosen per token"),
      rowSeq,
      input("x", "act[tokens, hidden]"),
      input("weight", "bf16[experts, hidden]"),
      input("bias", "bf16[experts]"),
      output("expert_ids", "i32[tokens, top_k]", "by falling logit"),
      output("expert_weights", "f32[tokens, top_k]"),
    ],
  }),
  moe: op({
    covers: ["moe_up", "moe_down"],
    summary: "out = sum over chosen experts of weight * (down(swiglu(up(x))))",
    fields: [...moe, output("out", "act[tokens, hidden]"), ...workspace],
  }),
  moe_residual: op({
    covers: ["moe_up", "moe_down", "residual"],
    summary: "stream += sum over chosen experts of weight * (down(swiglu(up(x))))",
    fields: [...moe, inout("stream", "stream[tokens, hidden]"), ...workspace],
  }),
  lm_head: op({
    covers: ["lm_head"],
    summary: "logits[r] = weight x[sample_rows[r]]",
    fields: [
      dtype,
      u32("rows", "bucket: rows that sample"),
      hidden,
      u32("vocab", "rows of the weight"),
      input("sample_rows", "i32[rows]", "row of x, -1 for a row that is not there"),
      input("x", "act[tokens, hidden]"),
      input("weight", "bf16[vocab, hidden]"),
      output("logits", "f32[rows, vocab]"),
    ],
  }),
  sample: op({
    covers: ["sample"],
    summary: "one token per row: greedy when temperature is 0, else temperature, top-k, top-p; its log-probability",
    fields: [
      u32("rows", "bucket: rows that sample"),
      u32("vocab", "logits per row"),
      input("sample_rows", "i32[rows]", "-1 for a row that is not there"),
      input("logits", "f32[rows, vocab]"),
      input("temperature", "f32[rows]", "0: the largest logit, lowest id on ties"),
      input("top_p", "f32[rows]", "1: off"),
      input("top_k", "i32[rows]", "0: off"),
      input("seeds", "u64[rows]"),
      input("counters", "u64[rows]", "with the seed, the key of the random number: same pair, same token"),
      output("token_ids", "i32[rows]"),
      output("logprobs", "f32[rows]", "natural logarithm of the unscaled softmax at the chosen token"),
      optionalOutput("next_token_ids", "i32[rows]", "the following step's token_ids, where sampling feeds it directly"),
      ...workspace,
    ],
  }),
  copy_rows: op({
    covers: [],
    summary: "dst[i] = src[i] for rows of bytes: packs, shards and concatenates weights",
    fields: [
      u64("rows", "rows to copy"),
      u64("row_bytes", "bytes of a row"),
      u64("src_stride", "bytes from one source row to the next"),
      u64("dst_stride", "bytes from one destination row to the next"),
      input("src", "u8[rows, src_stride]"),
      output("dst", "u8[rows, dst_stride]"),
    ],
  }),
  transpose_experts: op({
    covers: [],
    summary: "dst[e, j, i] = src[e, i, j]: experts stored [in, out] into layout bf16.rows",
    fields: [
      u32("experts", "matrices"),
      u32("rows", "rows of a source matrix (in)"),
      u32("columns", "columns of a source matrix (out)"),
      input("src", "bf16[experts, rows, columns]"),
      output("dst", "bf16[experts, columns, rows]"),
    ],
  }),
  mxfp4_dequantize: op({
    covers: [],
    summary: "MXFP4 blocks and scales to bf16.rows; exact, except for exponents that bf16 does not have",
    fields: [
      u64("rows", "experts * out"),
      u32("columns", "in; a multiple of 32"),
      input("blocks", "u8[rows, columns / 32, 16]"),
      input("scales", "u8[rows, columns / 32]"),
      output("dst", "bf16[rows, columns]"),
    ],
  }),
  norm_qkv_rope_kv: op({
    covers: ["norm", "qkv", "rope", "kv_write"],
    summary:
      "rmsnorm of the stream, then qkv_rope_kv; the normed rows are rounded to the activation dtype as rmsnorm does",
    fields: [
      dtype,
      streamDtype,
      kvDtype,
      tokens,
      hidden,
      u32("heads", "query heads"),
      u32("kv_heads", "key and value heads"),
      u32("head_dim", "width of a head"),
      f32("eps", "added to the mean square"),
      f32("rope_scale", "factor on both cosine and sine (YaRN: 0.1 ln(factor) + 1)"),
      u32("block_table_stride", "entries per row of block_table"),
      rowSeq,
      input("positions", "i32[tokens]"),
      input(
        "block_table",
        "i32[seqs, block_table_stride]",
        "page of each 64 positions, by absolute position; -1: freed",
      ),
      input("x", "stream[tokens, hidden]"),
      input("norm_weight", "bf16[hidden]"),
      input("weight", "bf16[(heads + 2 * kv_heads) * head_dim, hidden]", "rows of q, then k, then v"),
      input("bias", "bf16[(heads + 2 * kv_heads) * head_dim]"),
      input("inv_freq", "f32[head_dim / 2]"),
      output("q", "act[tokens, heads, head_dim]"),
      inout("kv", "kv[page, 2, kv_heads, 64, head_dim]", "this layer's pages (layout paged64.hnd)"),
    ],
  }),
  norm_router: op({
    covers: ["norm", "router"],
    summary: "rmsnorm of the stream (kept, the experts read it), then router on the rounded rows",
    fields: [
      dtype,
      streamDtype,
      tokens,
      hidden,
      u32("experts", "rows of the weight"),
      u32("top_k", "experts chosen per token"),
      f32("eps", "added to the mean square"),
      rowSeq,
      input("x", "stream[tokens, hidden]"),
      input("norm_weight", "bf16[hidden]"),
      input("weight", "bf16[experts, hidden]"),
      input("bias", "bf16[experts]"),
      output("normed", "act[tokens, hidden]"),
      output("expert_ids", "i32[tokens, top_k]", "by falling logit"),
      output("expert_weights", "f32[tokens, top_k]"),
      ...workspace,
    ],
  }),
  mxfp4_tiles: op({
    covers: [],
    summary:
      "mxfp4.rows to mxfp4.tiles, rows a multiple of 8, missing columns of the last tile 0. Bytes 8 l .. 8 l + 7 of a tile are lane l's: " +
      "row l / 4, columns 16 s + 2 (l % 4) + {0, 1, 8, 9} for s = 0 .. 3; word h holds s = 2 h, 2 h + 1. In a word, element pair p " +
      "(2 (s % 2) + column / 8) sits in both halves, the lower column in the low one: pair 0 has sign 15, code 8..6; pair 1 sign 12, " +
      "code 5..3; pair 2 sign 9, code 2..0; pair 3 sign 14, code 13, 11, 10. Byte 256 + 2 r + b: scale of row r, block b, at most 160, plus 94",
    fields: [
      u64("rows", "experts * out"),
      u32("columns", "in; a multiple of 32"),
      input("blocks", "u8[rows, columns / 32, 16]"),
      input("scales", "u8[rows, columns / 32]"),
      output("dst", "u8[rows / 8, ceil(columns / 64), 272]"),
    ],
  }),
} as const satisfies Record<string, OpSpec>;

export type OpName = keyof typeof ops;
export const opNames = Object.keys(ops) as OpName[];
