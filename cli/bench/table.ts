/** Figures of one choice of kernels: decoding by batch and at depth, prompts, memory; floors beside them. */
import type { Engine } from "@kernlock/engine";
import { type Model, modelFacts } from "@kernlock/engine/model";
import { fail } from "@kernlock/kernels/format";
import type { PlanRequest } from "@kernlock/policies/compatibility";
import { asKernlockError } from "../errors.ts";
import { errorJson } from "../output.ts";
import { type Ceiling, launchFloors, median, type StepFacts, stepFloor } from "./numbers.ts";
import {
  type Agreement,
  againstAlone,
  decoded,
  distinctExperts,
  greedy,
  randomPrompt,
  runAll,
  watched,
} from "./runs.ts";
import type { Session } from "./session.ts";
import { type StageRows, stageRows } from "./stages.ts";

export interface TableOptions {
  readonly batches: readonly number[];
  readonly prompt: number;
  readonly newTokens: number;
  readonly depth: number;
  readonly prefills: readonly number[];
  readonly chunk: number;
  readonly repeats: number;
  /** Most sequences of a batch that are also run alone. */
  readonly alone: number;
  readonly ahead: boolean;
}

export interface DecodeRow {
  readonly kind: "decode";
  readonly batch: number;
  /** Tokens before the first new one. */
  readonly context: number;
  /** Of all sequences together: the median of the runs. */
  readonly tokens_per_second: number;
  readonly runs: readonly number[];
  readonly floor_tokens_per_second: number;
  readonly share: number;
  readonly step_ms: number;
  /** Microseconds of a step in which no program was at work. */
  readonly idle_us: number;
  /** Mean of all layers and steps, counted in a run of its own; expected of random choices. */
  readonly distinct_experts: number | null;
  readonly expected_experts: number;
  readonly stages: StageRows | null;
  readonly agreement: Agreement;
}

export interface PrefillRow {
  readonly kind: "prefill";
  readonly tokens: number;
  readonly tokens_per_second: number;
  readonly runs: readonly number[];
  readonly floor_tokens_per_second: number;
  readonly share: number;
  /** Of the first chunk. */
  readonly stages: StageRows | null;
}

export interface FailedRow {
  readonly kind: "failed";
  readonly what: string;
  readonly error: ReturnType<typeof errorJson>;
}

export interface MemoryRow {
  readonly what: string;
  readonly weights: number;
  readonly kv: number;
  readonly workspace: number;
  /** Weights, cache and 600 MB. */
  readonly limit: number;
  /** The most that was used besides the context, seen by the driver; null on a CPU. */
  readonly used: number | null;
}

export interface ChoiceFigures {
  readonly name: string;
  readonly kernels: readonly string[];
  readonly expert_layout: string | null;
  readonly rows: readonly (DecodeRow | PrefillRow | FailedRow)[];
  readonly memory: readonly MemoryRow[];
}

export interface Choice {
  readonly name: string;
  readonly request: Partial<PlanRequest>;
}

/** Measures all of it. What fails is told in its place, and the rest is measured. */
export async function measureChoice(
  session: Session,
  model: Model,
  choice: Choice,
  options: TableOptions,
  ceiling: Ceiling,
  say: (text: string) => void,
): Promise<ChoiceFigures> {
  const facts = modelFacts(model);
  const { ahead, chunk, newTokens, repeats, prefills, depth, prompt } = options;
  const rows: (DecodeRow | PrefillRow | FailedRow)[] = [];
  const memory: MemoryRow[] = [];
  let planned: Engine["plan"] | null = null;
  let seed = 0;
  const next = (length: number): number[] => randomPrompt(length, facts.vocab, ++seed);

  async function attempt(what: string, work: () => Promise<void>): Promise<void> {
    say(`${choice.name}: ${what}`);
    try {
      await work();
    } catch (error) {
      rows.push({ kind: "failed", what, error: errorJson(asKernlockError(error)) });
    }
  }

  /** An engine of its own for a few of the rows: where a device is lost, the others get a new one. */
  const withEngine = (
    what: string,
    limits: Partial<PlanRequest>,
    use: (engine: Engine) => Promise<void>,
  ): Promise<void> =>
    attempt(`${what}: loading`, async () => {
      await using engine = await session.start(
        model,
        { ...choice.request, ...limits, maxBatchTokens: chunk },
        { ahead },
      );
      planned = engine.plan;
      await use(engine);
      const { weights, kv, workspace } = engine.plan.memory;
      const { used } = (await engine.watch("nothing")).memory;
      const limit = weights + kv + 600e6;
      memory.push({ ...{ what, weights, kv, workspace, limit }, used: engine.plan.device === "cpu" ? null : used });
    });

  async function decode(engine: Engine, batch: number, context: number, alone: number): Promise<void> {
    const { mode, expertLayout } = engine.plan;
    const requests = (tokens: number) => Array.from({ length: batch }, () => greedy(next(context), tokens));
    // Builds the programs and lets the device record them: two runs of each.
    await runAll(engine, requests(newTokens));
    // The first sequences decode while the last ones' prompts are read.
    const few = Math.min(newTokens, 6 + Math.ceil((batch * context) / chunk));
    const { seen: counted } = await watched(engine, "experts", requests(few));
    const experts = distinctExperts(counted, batch);
    const { seen: stepped } = await watched(engine, "stages", requests(few));
    const timed: NonNullable<ReturnType<typeof decoded>>[] = [];
    let last: Awaited<ReturnType<typeof watched>>["done"] = [];
    for (let run = 0; timed.length < repeats && run < repeats + 4; run++) {
      const { done, seen } = await watched(engine, "times", requests(newTokens));
      const one = decoded(seen, batch);
      if (one !== null) timed.push(one);
      last = done;
    }
    if (timed.length === 0) {
      fail("KL_BENCH_BATCH", `In no run did all ${batch} sequences decode at once.`, {
        remedy: "Let each decode more tokens (--new), or read more of the prompts in a step (--chunk).",
      });
    }
    const expected = facts.experts * (1 - (1 - facts.topK / facts.experts) ** batch);
    const step: StepFacts = {
      ...{ tokens: batch, rows: batch, sequences: batch, experts: experts ?? expected },
      context: context + newTokens / 2,
    };
    const floors = launchFloors(facts, mode, expertLayout, step, ceiling);
    const floor = batch / stepFloor(facts, step, floors);
    const rate = median(timed.map((one) => one.rate));
    rows.push({
      ...{ kind: "decode", batch, context, tokens_per_second: rate, runs: timed.map((one) => one.rate) },
      ...{ floor_tokens_per_second: floor, share: rate / floor },
      step_ms: median(timed.map(({ stepMs }) => stepMs)),
      idle_us: 1e3 * median(timed.map(({ idleMs }) => idleMs)),
      ...{ distinct_experts: experts, expected_experts: expected },
      stages: stageRows(stepped, "decode", batch, floors),
      agreement: await againstAlone(engine, last, alone),
    });
  }

  async function prefill(engine: Engine, tokens: number): Promise<void> {
    const { mode, expertLayout } = engine.plan;
    const rate = async (): Promise<number> => {
      const [one] = await runAll(engine, [greedy(next(tokens), 1)]);
      return (1e3 * tokens) / one!.result.timing.prefill_ms;
    };
    await rate();
    await rate();
    const runs: number[] = [];
    for (let run = 0; run < repeats; run++) runs.push(await rate());
    const step = { tokens, rows: 1, sequences: 1, context: tokens, experts: facts.experts };
    const floors = launchFloors(facts, mode, expertLayout, step, ceiling);
    const floor = tokens / stepFloor(facts, step, floors);
    const chunk = Math.min(tokens, options.chunk);
    const first = { ...step, tokens: chunk, context: chunk, rows: chunk === tokens ? 1 : 0 };
    const { seen } = await watched(engine, "stages", [greedy(next(tokens), 1)]);
    const tokens_per_second = median(runs);
    rows.push({
      ...{ kind: "prefill", tokens, tokens_per_second, runs },
      ...{ floor_tokens_per_second: floor, share: tokens_per_second / floor },
      stages: stageRows(seen, "mixed", chunk, launchFloors(facts, mode, expertLayout, first, ceiling)),
    });
  }

  const shortest = { maxContext: prompt + newTokens, maxSequences: Math.max(...options.batches) };
  await withEngine("batches", shortest, async (engine) => {
    for (const batch of options.batches) {
      await attempt(`decode, batch ${batch}`, () => decode(engine, batch, prompt, options.alone));
    }
  });
  const longest = { maxContext: Math.max(depth, ...prefills) + newTokens, maxSequences: 1 };
  await withEngine("long contexts", longest, async (engine) => {
    for (const tokens of prefills) await attempt(`prefill ${tokens}`, () => prefill(engine, tokens));
    if (depth > 0) await attempt(`decode at depth ${depth}`, () => decode(engine, 1, depth, 1));
  });
  const made = planned as Engine["plan"] | null;
  return {
    name: choice.name,
    kernels: [...new Set(made?.ops.map(({ op, kernel, version }) => `${op} of ${kernel} ${version}`))],
    expert_layout: made?.expertLayout ?? null,
    ...{ rows, memory },
  };
}
