/** One step: the scheduler's parts go into the buffers, one native call runs the program, results come out. */
import { type Bucket, bucketOf, type LayerKind, type Plan, pageTokens } from "@kernlock/policies/compatibility";
import type { Program } from "../native/index.ts";
import { f32, i32, u64 } from "./buffers.ts";
import { buildProgram, type Parts, type Shape } from "./program.ts";
import type { Part, Sequence } from "./scheduler.ts";

/** What sampling must know of a sequence. */
export interface Sampled extends Sequence {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly seed: bigint;
}

/** What a step gave one sequence. */
export interface StepResult {
  /** The next token, if the step reached the end of what was known. */
  readonly next: { readonly id: number; readonly logprob: number } | null;
  /** Rows of logits, f32 [rows, vocab]: a view that the next step overwrites. */
  readonly logits: Float32Array;
}

export interface Stepper {
  /** Runs the parts; results are in their order. @throws KL_OP_FAILED */
  step(parts: readonly Part<Sampled>[]): Promise<{ bucket: Bucket; results: StepResult[] }>;
}

export function createStepper(parts: Parts): Stepper {
  const { plan, model } = parts;
  const programs = new Map<string, Program>();
  const programFor = (shape: Shape): Program => {
    const key = Object.values(shape).join();
    const program = programs.get(key) ?? buildProgram(parts, shape);
    programs.set(key, program);
    return program;
  };
  const inputs = openInputs(parts);
  const outputs = {
    logits: f32(parts.buffers.named.logits),
    sampled: i32(parts.buffers.named.sampled),
    logprobs: f32(parts.buffers.named.logprobs),
  };
  return {
    async step(stepParts) {
      const shape = shapeOf(stepParts, plan);
      fillInputs(inputs, stepParts, shape, plan);
      await programFor(shape).run();
      let row = 0;
      const results = stepParts.map(({ sequence, start, count, rows }) => {
        const logits = outputs.logits.subarray(row * model.vocab, (row + rows) * model.vocab);
        row += rows;
        const last = rows > 0 && start + count === sequence.tokens.length && sequence.finish === null;
        const next = last ? { id: outputs.sampled[row - 1]!, logprob: outputs.logprobs[row - 1]! } : null;
        return { next, logits };
      });
      return { bucket: shape.bucket, results };
    },
  };
}

/** Sizes are rounded up to powers of two, so that few programs serve all steps. */
function shapeOf(parts: readonly Part[], plan: Plan): Shape {
  const sum = (of: (part: Part) => number): number => parts.reduce((total, part) => total + of(part), 0);
  const rows = sum((part) => part.rows);
  const longest = Math.max(...parts.map(({ start, count }) => start + count));
  const decode = parts.every(({ count }) => count === 1);
  const seqs = bucketOf(decode ? parts.length : plan.maxSequences);
  return {
    bucket: decode ? "decode" : "mixed",
    tokens: decode ? seqs : bucketOf(sum((part) => part.count)),
    seqs,
    rows: rows === 0 ? 0 : bucketOf(rows),
    maxContext: bucketOf(Math.max(longest, pageTokens)),
  };
}

type Inputs = ReturnType<typeof openInputs>;

function openInputs({ buffers: { named } }: Parts) {
  return {
    token_ids: i32(named.token_ids),
    row_seq: i32(named.row_seq),
    positions: i32(named.positions),
    context: i32(named.context),
    query_start: i32(named.query_start),
    tables: { full: i32(named.block_table_full), sliding: i32(named.block_table_sliding) },
    sample_rows: i32(named.sample_rows),
    temperature: f32(named.temperature),
    top_p: f32(named.top_p),
    top_k: i32(named.top_k),
    seeds: u64(named.seeds),
    counters: u64(named.counters),
  };
}

function fillInputs(inputs: Inputs, parts: readonly Part<Sampled>[], shape: Shape, plan: Plan): void {
  const stride = Math.ceil(plan.maxContext / pageTokens);
  // What the bucket has and the step has not is marked as not there.
  inputs.row_seq.fill(-1, 0, shape.tokens);
  inputs.sample_rows.fill(-1, 0, shape.rows);
  inputs.context.fill(0, 0, shape.seqs);
  let token = 0;
  let row = 0;
  for (const [i, { sequence, start, count, rows }] of parts.entries()) {
    inputs.context[i] = start + count;
    inputs.query_start[i] = token;
    for (const kind of ["full", "sliding"] as const satisfies LayerKind[]) {
      const table = inputs.tables[kind].subarray(i * stride, (i + 1) * stride);
      table.set(sequence.tables![kind].pages);
      table.fill(-1, sequence.tables![kind].pages.length);
    }
    for (let k = 0; k < count; k++, token++) {
      inputs.token_ids[token] = sequence.tokens[start + k]!;
      inputs.row_seq[token] = i;
      inputs.positions[token] = start + k;
      if (k < count - rows) continue;
      inputs.sample_rows[row] = token;
      inputs.temperature[row] = sequence.temperature;
      inputs.top_p[row] = sequence.topP;
      inputs.top_k[row] = sequence.topK;
      inputs.seeds[row] = sequence.seed;
      // The number of the token that is drawn: a sequence draws the same tokens whatever runs beside it.
      inputs.counters[row] = BigInt(start + k + 1);
      row++;
    }
  }
  inputs.query_start.fill(token, parts.length, shape.seqs + 1);
}
