/**
 * Continuous batching: what the next step runs. First come, first served; sequences that decode go first, prompts fill
 * what is left of the step in chunks, and a new sequence enters as soon as its pages can be promised.
 */
import { type LayerKind, type Limits, type ModelFacts, pagesPerSequence } from "@kernlock/policies/compatibility";
import { type Arena, createArena, extend, type PageTable, release, reserve } from "./pages.ts";

export interface Sequence {
  /** Prompt and new tokens. */
  readonly tokens: number[];
  readonly promptLength: number;
  readonly maxNewTokens: number;
  /** Logits are kept for every token, the last one included. */
  readonly wantLogits: boolean;
  /** Tokens whose keys and values are in the cache. */
  computed: number;
  finish: "stop" | "length" | null;
  tables: Readonly<Record<LayerKind, PageTable>> | null;
}

/** Part of a sequence in one step: tokens [start, start + count). */
export interface Part<S extends Sequence = Sequence> {
  readonly sequence: S;
  readonly start: number;
  readonly count: number;
  /** How many of the last tokens get a row of logits: all, the last one, or none. */
  readonly rows: number;
}

export interface Scheduler<S extends Sequence> {
  readonly waiting: S[];
  readonly running: S[];
  readonly limits: Limits & { readonly maxRows: number };
  readonly model: ModelFacts;
  readonly arenas: Readonly<Record<LayerKind, Arena>>;
}

const kinds = ["full", "sliding"] as const;

export function createScheduler<S extends Sequence>(
  model: ModelFacts,
  limits: Scheduler<S>["limits"],
  pages: Readonly<Record<LayerKind, number>>,
): Scheduler<S> {
  const arenas = { full: createArena(pages.full), sliding: createArena(pages.sliding) };
  return { waiting: [], running: [], limits, model, arenas };
}

/** Nothing is left to compute. Without logits, the last new token need not run through the model. */
export const isDone = (sequence: Sequence): boolean =>
  sequence.finish !== null && (!sequence.wantLogits || sequence.computed === sequence.tokens.length);

/** The parts of the next step, in order; empty when there is nothing to do. Pages for them are taken here. */
export function nextStep<S extends Sequence>(scheduler: Scheduler<S>): Part<S>[] {
  const { waiting, running, limits, model } = scheduler;
  const parts: Part<S>[] = [];
  let tokens = limits.maxBatchTokens;
  let rows = limits.maxRows;
  const groups = kinds.filter((kind) => model.layers.includes(kind));
  const add = (sequence: S): void => {
    const pending = sequence.tokens.length - sequence.computed;
    const count = Math.min(pending, tokens, sequence.wantLogits ? rows : tokens);
    const samples = sequence.wantLogits ? count : count === pending ? 1 : 0;
    if (count === 0 || samples > rows) return;
    const end = sequence.computed + count;
    for (const kind of groups) {
      extend(scheduler.arenas[kind], sequence.tables![kind], sequence.computed, end, model.slidingWindow);
    }
    parts.push({ sequence, start: sequence.computed, count, rows: samples });
    tokens -= count;
    rows -= samples;
  };
  const decodes = (sequence: S): boolean => sequence.tokens.length - sequence.computed === 1;
  for (const sequence of running) if (decodes(sequence)) add(sequence);
  for (const sequence of running) if (!decodes(sequence)) add(sequence);
  while (waiting.length > 0 && running.length < limits.maxSequences && tokens > 0 && rows > 0) {
    const sequence = waiting[0]!;
    sequence.tables = reserveTables(scheduler, sequence);
    if (sequence.tables === null) break;
    waiting.shift();
    running.push(sequence);
    add(sequence);
  }
  return parts;
}

/**
 * The parts of the step that may be handed to the device while `parts` are still at work, before their tokens are known:
 * the same sequences, each a token further. Null where it is not certain that there will be such a step: somebody ends,
 * enters, or is something else than decoding. A sequence that then draws a stop token has run one row in vain.
 */
export function following<S extends Sequence>(
  scheduler: Scheduler<S>,
  parts: readonly Part<S>[],
  gone: (sequence: S) => boolean,
): Part<S>[] | null {
  const { running, model, arenas } = scheduler;
  if (running.length !== parts.length || canAdmit(scheduler)) return null;
  const goesOn = ({ sequence, start, count, rows }: Part<S>): boolean =>
    count === 1 &&
    rows === 1 &&
    !sequence.wantLogits &&
    sequence.finish === null &&
    !gone(sequence) &&
    start + 2 - sequence.promptLength < sequence.maxNewTokens;
  if (!parts.every(goesOn)) return null;
  return parts.map(({ sequence, start }) => {
    for (const kind of kinds) {
      if (!model.layers.includes(kind)) continue;
      extend(arenas[kind], sequence.tables![kind], start + 1, start + 2, model.slidingWindow);
    }
    return { sequence, start: start + 1, count: 1, rows: 1 };
  });
}

/** Whether the first that waits would enter now. */
function canAdmit<S extends Sequence>(scheduler: Scheduler<S>): boolean {
  const { waiting, running, limits, arenas } = scheduler;
  const first = waiting[0];
  if (first === undefined || running.length >= limits.maxSequences) return false;
  return kinds.every((kind) => arenas[kind].reserved + pagesFor(scheduler, first, kind) <= arenas[kind].pages);
}

/** Takes sequences that are done (or given up) out and their pages back. */
export function retire<S extends Sequence>(scheduler: Scheduler<S>, gone: (sequence: S) => boolean): S[] {
  const out: S[] = [];
  for (const list of [scheduler.running, scheduler.waiting]) {
    for (let i = list.length - 1; i >= 0; i--) {
      if (gone(list[i]!)) out.unshift(...list.splice(i, 1));
    }
  }
  for (const { tables } of out) {
    if (tables !== null) for (const kind of kinds) release(scheduler.arenas[kind], tables[kind]);
  }
  return out;
}

/** The most pages that a sequence may ever hold at once. */
function pagesFor<S extends Sequence>({ model, limits }: Scheduler<S>, sequence: S, kind: LayerKind): number {
  const most = sequence.promptLength + sequence.maxNewTokens;
  return model.layers.includes(kind) ? pagesPerSequence(kind, model, limits, most) : 0;
}

function reserveTables<S extends Sequence>(scheduler: Scheduler<S>, sequence: S): Sequence["tables"] {
  const { arenas } = scheduler;
  const need = (kind: LayerKind): number => pagesFor(scheduler, sequence, kind);
  const full = reserve(arenas.full, "full", need("full"));
  if (full === null) return null;
  const sliding = reserve(arenas.sliding, "sliding", need("sliding"));
  if (sliding === null) {
    release(arenas.full, full);
    return null;
  }
  return { full, sliding };
}
