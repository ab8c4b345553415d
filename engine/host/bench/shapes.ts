/** Sizes of the launches that a benchmark times, and of the arrays that they read. */
import type { CostSizes, Layout, OpName } from "@kernlock/kernels/abi";
import { bucketOf, dtypeBytes, type Mode, modeTypes, pageTokens } from "@kernlock/policies/compatibility";
import type { BenchShape } from "../../client/protocol.ts";

/** One launch of one op, in sizes. */
export interface BenchCase {
  readonly op: OpName;
  /** What tells it from the op's other launches. */
  readonly label: string;
  readonly tokens: number;
  /** Every number that the op's arguments or the shapes of its arrays name. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Without the experts that are used, which depend on the draw. */
  readonly cost: Omit<CostSizes, "expertsUsed">;
}

/** Rows up to which a launch is one of decoding: each row another sequence, and each samples. */
const decodeRows = 256;

/** The launches of an op for so many token rows at such a depth; none, where that is no use of the op. */
export function benchCases(
  op: OpName,
  {
    shape,
    tokens,
    context,
    mode,
    layout,
  }: { shape: BenchShape; tokens: number; context: number; mode: Mode; layout: Layout },
): BenchCase[] {
  const decode = tokens <= decodeRows;
  if ((op === "attn_decode" || op === "lm_head" || op === "sample") && !decode) return [];
  if (op === "attn_prefill" && decode) return [];
  const attends = op === "attn_decode" || op === "attn_prefill";
  const windows = attends ? [0, shape.slidingWindow] : [0];
  return windows.map((window) => one(op, { shape, tokens, context, mode, layout, window, decode }));
}

function one(
  op: OpName,
  given: {
    shape: BenchShape;
    tokens: number;
    context: number;
    mode: Mode;
    layout: Layout;
    window: number;
    decode: boolean;
  },
): BenchCase {
  const { shape, tokens, context, mode, layout, window, decode } = given;
  // A prompt is read from its beginning; a row of decoding stands at the end of its own sequence.
  const keysOf = decode ? context : tokens;
  const seqs = decode ? tokens : 1;
  const stride = Math.ceil(keysOf / pageTokens);
  const types = modeTypes[mode];
  const bytes = {
    activation: dtypeBytes[types.activation],
    stream: dtypeBytes[types.stream],
    kv: dtypeBytes[types.kv],
  };
  const seen = window === 0 ? keysOf : Math.min(window, keysOf);
  const pairs = decode ? seqs * seen : window === 0 ? (tokens * (tokens + 1)) / 2 : pairsInWindow(tokens, window);
  const prepared = preparedSizes(op, shape);
  const sizes: Record<string, number> = {
    ...{ tokens, seqs, rows: tokens, vocab: shape.vocab, max_context: bucketOf(Math.max(keysOf, pageTokens)) },
    ...{ hidden: shape.hidden, intermediate: shape.intermediate, experts: shape.experts, top_k: shape.topK },
    ...{ heads: shape.heads, kv_heads: shape.kvHeads, head_dim: shape.headDim },
    ...{ window, scale: shape.headDim ** -0.5, block_table_stride: stride, context: keysOf },
    ...{ in_features: shape.heads * shape.headDim, out_features: shape.hidden },
    ...{
      expert_begin: 0,
      expert_end: shape.experts,
      partial: 0,
      alpha: 1.702,
      limit: 7,
      eps: 1e-5,
      rope_scale: 1.3465735902799727,
    },
    page: seqs * stride,
    ...prepared?.sizes,
  };
  const what = op.startsWith("attn_")
    ? `${decode ? `depth ${context}` : "a prompt"}, ${window === 0 ? "all keys" : `window ${window}`}`
    : "";
  return {
    op,
    label: prepared === null ? what : prepared.label,
    tokens: prepared === null ? tokens : 0,
    sizes,
    cost: {
      ...{ tokens, rows: tokens, ...shape, layout, ...bytes },
      keys: decode ? seqs * seen : tokens,
      pairs,
      read: prepared?.read ?? 0,
      written: prepared?.written ?? 0,
    },
  };
}

/** Row i of a prompt sees min(i + 1, window) keys. */
function pairsInWindow(tokens: number, window: number): number {
  const first = Math.min(tokens, window);
  return (first * (first + 1)) / 2 + (tokens - first) * window;
}

/** Ops that prepare weights run once a tensor: the query projection, and one expert's up matrix. Null for all others. */
function preparedSizes(op: OpName, { hidden, intermediate, heads, headDim }: BenchShape) {
  const rows = 2 * intermediate;
  const codes = (rows * hidden * 17) / 32;
  switch (op) {
    case "copy_rows": {
      const bytes = heads * headDim * hidden * 2;
      const row = 2 * hidden;
      const sizes = { rows: heads * headDim, row_bytes: row, src_stride: row, dst_stride: row };
      return { sizes, label: `${heads * headDim} rows of ${row} bytes`, read: bytes, written: bytes };
    }
    case "transpose_experts": {
      const bytes = rows * hidden * 2;
      return {
        sizes: { experts: 1, rows: hidden, columns: rows },
        label: `an expert's ${hidden} x ${rows}`,
        read: bytes,
        written: bytes,
      };
    }
    case "mxfp4_dequantize":
      return {
        sizes: { rows, columns: hidden },
        label: `an expert's ${rows} x ${hidden}`,
        read: codes,
        written: 2 * rows * hidden,
      };
    case "mxfp4_tiles": {
      const written = (rows / 8) * Math.ceil(hidden / 64) * 272;
      return { sizes: { rows, columns: hidden }, label: `an expert's ${rows} x ${hidden}`, read: codes, written };
    }
    default:
      return null;
  }
}
