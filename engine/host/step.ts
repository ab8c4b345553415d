/** One step: the scheduler's parts go into the buffers, one native call runs the program, results come out. */
import {
  type Bucket,
  bucketOf,
  type InputName,
  inputLayout,
  type LayerKind,
  type Plan,
  pageTokens,
  resultLayout,
  stepSlots,
} from "@kernlock/policies/compatibility";
import type { Routing, Watched } from "../client/protocol.ts";
import { createProgram, type Program, readMemory, type Step, writeMemory } from "../native/index.ts";
import { type Buffers, f32, i32, u64 } from "./buffers.ts";
import { buildSteps, type Parts, type Shape } from "./program.ts";
import { addRouted, type Routed, type Routes } from "./routes.ts";
import type { Part, Sequence } from "./scheduler.ts";

/** What sampling must know of a sequence. */
export interface Sampled extends Sequence {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly seed: bigint;
  readonly routing: Routing | null;
}

/** What a step gave one sequence. */
export interface StepResult {
  /** The next token, if the step reached the end of what was known. */
  readonly next: { readonly id: number; readonly logprob: number } | null;
  /** Rows of logits, f32 [rows, vocab]: a view that the next step overwrites. */
  readonly logits: Float32Array;
}

/** A step that has been handed to the device. */
export interface Begun<S extends Sampled> {
  readonly parts: readonly Part<S>[];
  readonly bucket: Bucket;
  /** Results in the order of the parts, to be asked for once the step before has been taken. @throws KL_OP_FAILED */
  readonly results: () => Promise<StepResult[]>;
}

export interface InPieces<S extends Sampled> extends Begun<S> {
  /** How many different experts each layer has used. */
  readonly distinct: readonly number[];
  readonly routed: Routed;
}

export interface Stepper {
  /**
   * Hands the parts to the device. Every other step may begin before the one before it has ended; `fed`: that one's
   * tokens, row for row, are what this one reads.
   */
  begin<S extends Sampled>(parts: readonly Part<S>[], fed: boolean): Begun<S>;
  /** Times the step of these parts, on this thread and some dozens of times. What it computes is left as it is. */
  time(parts: readonly Part<Sampled>[]): StepTimes;
  /** The same in pieces, waited for, with what is seen between them. */
  beginInPieces<S extends Sampled>(parts: readonly Part<S>[]): Promise<InPieces<S>>;
}

/** Milliseconds of a step, and what its stages have to do with them. */
export type StepTimes = Omit<Watched["stages"][number], "bucket" | "tokens" | "sequences">;

/** A program with the places of its inputs and results. */
interface Ready {
  readonly program: Program;
  readonly inputs: Inputs;
  readonly sampled: Int32Array;
  readonly logprobs: Float32Array;
}

export function createStepper(parts: Parts, routes: Routes): Stepper {
  const { device, plan, model, buffers } = parts;
  let slot = 0;
  const ready = new Map<string, Ready>();
  const readyFor = (shape: Shape): Ready => {
    const key = Object.values(shape).join();
    const known = ready.get(key) ?? {
      program: createProgram(device, buildSteps(parts, shape).steps),
      ...openArrays(buffers, shape),
    };
    ready.set(key, known);
    return known;
  };
  const shaped = (stepParts: readonly Part[], fed: boolean): Shape => {
    // A step that is not fed begins when nothing else is at work.
    slot = fed ? (slot + 1) % stepSlots : 0;
    return { ...shapeOf(stepParts, plan), slot, fed };
  };
  const resultsOf = (stepParts: readonly Part<Sampled>[], { sampled, logprobs }: Results): StepResult[] => {
    let row = 0;
    return stepParts.map(({ sequence, start, count, rows }) => {
      const { wantLogits } = sequence;
      const logits = wantLogits
        ? buffers.logits.view().subarray(row * model.vocab, (row + rows) * model.vocab)
        : new Float32Array(0);
      row += rows;
      const last = rows > 0 && start + count === sequence.tokens.length && sequence.finish === null;
      const next = last ? { id: sampled[row - 1]!, logprob: logprobs[row - 1]! } : null;
      return { next, logits };
    });
  };
  return {
    begin(stepParts, fed) {
      const shape = shaped(stepParts, fed);
      const { program, inputs, ...results } = readyFor(shape);
      fillInputs(inputs, stepParts, shape);
      const ran = program.run();
      return { parts: stepParts, bucket: shape.bucket, results: () => ran.then(() => resultsOf(stepParts, results)) };
    },
    time(stepParts) {
      const shape = shaped(stepParts, false);
      fillInputs(openArrays(buffers, shape).inputs, stepParts, shape);
      const { steps, stages } = buildSteps(parts, shape);
      const timed = (chosen: readonly Step[]): number => {
        if (chosen.length === 0) return 0;
        const program = createProgram(device, chosen);
        const [first = 1] = program.time(1);
        const runs = Math.max(3, Math.min(40, Math.floor(100 / Math.max(first, 1e-3))));
        return program.time(runs).toSorted((a, b) => a - b)[runs >> 1]!;
      };
      return {
        ms: timed(steps),
        stages: [...new Set(stages)].map((name) => {
          const own = steps.filter((_, i) => stages[i] === name);
          // Without it the stream of the step before would be added to, time and again.
          const without = name === "embed" ? null : timed(steps.filter((_, i) => stages[i] !== name));
          // An op may be several launches.
          const launches = stages.filter((one, i) => one === name && stages[i - 1] !== name).length;
          return { name, launches, alone: timed(own), without };
        }),
      };
    },
    async beginInPieces(stepParts) {
      const shape = shaped(stepParts, false);
      const { inputs, ...arrays } = openArrays(buffers, shape);
      fillInputs(inputs, stepParts, shape);
      const { steps, routed } = buildSteps(parts, shape);
      const rows = stepParts.reduce((sum, { count }) => sum + count, 0);
      const distinct: number[] = [];
      const total = { followed: 0, otherwise: 0, furthest: 0 };
      let from = 0;
      for (const [layer, to] of routed.entries()) {
        await createProgram(device, steps.slice(from, to)).run();
        const { expert_ids, expert_weights } = buffers.named;
        const ids = i32(readMemory(device, expert_ids, 4 * rows * model.topK));
        const weights = f32(readMemory(device, expert_weights, 4 * rows * model.topK));
        const seen = routes.settle(layer, stepParts, { ids, weights });
        if (seen.followed > 0) {
          writeMemory(device, expert_ids, new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
          writeMemory(device, expert_weights, new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength));
        }
        addRouted(total, seen);
        distinct.push(new Set(ids).size);
        from = to;
      }
      if (from < steps.length) await createProgram(device, steps.slice(from)).run();
      const done = resultsOf(stepParts, arrays);
      const results = (): Promise<StepResult[]> => Promise.resolve(done);
      return { parts: stepParts, bucket: shape.bucket, results, distinct, routed: total };
    },
  };
}

/** Sizes are rounded up to powers of two, so that few programs serve all steps. */
function shapeOf(parts: readonly Part[], plan: Plan): Omit<Shape, "slot" | "fed"> {
  const sum = (of: (part: Part) => number): number => parts.reduce((total, part) => total + of(part), 0);
  const rows = sum((part) => part.rows);
  const longest = Math.max(...parts.map(({ start, count }) => start + count));
  const decode = parts.every(({ count }) => count === 1);
  const seqs = bucketOf(decode ? parts.length : plan.maxSequences);
  const maxContext = bucketOf(Math.max(longest, pageTokens));
  return {
    bucket: decode ? "decode" : "mixed",
    tokens: decode ? seqs : bucketOf(sum((part) => part.count)),
    seqs,
    rows: rows === 0 ? 0 : bucketOf(rows),
    pages: Math.ceil(Math.min(maxContext, plan.maxContext) / pageTokens),
    maxContext,
    logits: parts.some(({ sequence }) => sequence.wantLogits),
  };
}

type Inputs = ReturnType<typeof openArrays>["inputs"];
type Results = Pick<Ready, "sampled" | "logprobs">;

/** The arrays of a shape, packed at the beginning of what is shared with the device. */
function openArrays({ slots }: Buffers, shape: Shape) {
  const { inputs, results } = slots[shape.slot]!;
  const { offsets, bytes } = inputLayout(shape);
  const ends = [...Object.values(offsets).slice(1), bytes];
  const starts = Object.keys(offsets) as InputName[];
  const at = (name: InputName): Uint8Array => {
    const begin = offsets[name];
    return inputs.host.view(begin, ends[starts.indexOf(name)]! - begin);
  };
  const result = resultLayout(shape).offsets;
  return {
    inputs: {
      token_ids: i32(at("token_ids")),
      row_seq: i32(at("row_seq")),
      positions: i32(at("positions")),
      context: i32(at("context")),
      query_start: i32(at("query_start")),
      tables: { full: i32(at("block_table_full")), sliding: i32(at("block_table_sliding")) },
      sample_rows: i32(at("sample_rows")),
      temperature: f32(at("temperature")),
      top_p: f32(at("top_p")),
      top_k: i32(at("top_k")),
      seeds: u64(at("seeds")),
      counters: u64(at("counters")),
    },
    sampled: i32(results.host.view(result.sampled, 4 * shape.rows)),
    logprobs: f32(results.host.view(result.logprobs, 4 * shape.rows)),
  };
}

function fillInputs(inputs: Inputs, parts: readonly Part<Sampled>[], shape: Shape): void {
  const stride = shape.pages;
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
      // Where it is not known yet, the device puts it there, and where both share memory, maybe right now.
      if (!shape.fed) inputs.token_ids[token] = sequence.tokens[start + k]!;
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
