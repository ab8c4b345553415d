/** Runs of an engine that are timed, counted or held against each other. */
import type { Engine, Generated, GenerateRequest, Watched } from "@kernlock/engine";

/** Distinct random ids; the same seed gives the same. */
export function randomPrompt(length: number, vocab: number, seed: number): number[] {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // The low bits of such a generator repeat soon.
    return Math.floor((state / 2 ** 32) * vocab);
  });
}

export const greedy = (tokenIds: readonly number[], maxNewTokens: number): GenerateRequest => ({
  prompt: { tokenIds },
  maxNewTokens,
  ignoreEos: true,
  sampling: { kind: "greedy" },
});

export async function runAll(engine: Engine, requests: readonly GenerateRequest[]): Promise<Generated[]> {
  const done = await engine.generateAll(requests);
  return done.map((item) => {
    if (item.ok) return item.value;
    throw item.error;
  });
}

/** The same, and what was gathered about its steps. */
export async function watched(
  engine: Engine,
  what: "times" | "experts" | "stages",
  requests: readonly GenerateRequest[],
): Promise<{ readonly done: readonly Generated[]; readonly seen: Watched }> {
  await engine.watch(what);
  const done = await runAll(engine, requests);
  return { done, seen: await engine.watch("nothing") };
}

export interface Decoded {
  /** Tokens a second of all sequences together. */
  readonly rate: number;
  /** Milliseconds of a step: its period, and of that the part in which no program was at work. */
  readonly stepMs: number;
  readonly idleMs: number;
}

/** The steps in which all sequences decode; the first one also waits for what was before it. Null where there are none. */
export function decoded({ steps }: Watched, sequences: number): Decoded | null {
  const whole = steps.filter((step) => step.bucket === "decode" && step.sequences === sequences).slice(1);
  if (whole.length === 0) return null;
  const sum = whole.reduce((total, { ms }) => total + ms, 0);
  const idle = whole.reduce((total, { ms, busyMs }) => total + Math.max(0, ms - busyMs), 0);
  return { rate: (sequences * whole.length * 1e3) / sum, stepMs: sum / whole.length, idleMs: idle / whole.length };
}

/** Mean number of different experts in a layer, over the steps of decoding all sequences, or of reading prompts. */
export function distinctExperts({ experts }: Watched, sequences: number | "prompt"): number | null {
  const steps = experts.filter(({ bucket, tokens }) =>
    sequences === "prompt" ? bucket === "mixed" : bucket === "decode" && tokens === sequences,
  );
  const all = steps.flatMap(({ distinct }) => distinct);
  return all.length === 0 ? null : all.reduce((a, b) => a + b, 0) / all.length;
}

export interface Agreement {
  /** Tokens that were compared: those of which the sequence alone is sure. */
  readonly compared: number;
  readonly equal: number;
  /** Tokens of which it is not: its two largest logits are no further apart than the margin. */
  readonly undecided: number;
  /** Sequences that drew the same tokens in pieces, where routing is kept, as they had drawn in the steps that are timed. */
  readonly repeated: number;
  readonly sequences: number;
  /** Share of the tokens of all layers whose own router would have chosen others, and by how much of a weight at most. */
  readonly otherwise: number;
  readonly furthest: number;
}

/** The least difference between the two largest logits of a row that says which token it is. */
export const decidedMargin = 0.1;

/**
 * Holds each sequence of a batch against the same sequence alone: its prompt and the tokens that it drew in the batch, in
 * one piece, and of every row the largest logit. Routers of random weights score many experts nearly the same, and
 * rounding then decides; so the batch runs once more with its routing kept, and the sequence alone follows it.
 */
export async function againstAlone(engine: Engine, batch: readonly Generated[], most: number): Promise<Agreement> {
  const name = (index: number): string => `sequence ${index}`;
  const again = await runAll(
    engine,
    batch.map(({ result: { prompt_token_ids, token_ids } }, index) => ({
      ...greedy(prompt_token_ids, token_ids.length),
      routing: { kind: "keep", name: name(index) },
    })),
  );
  const same = (index: number): boolean =>
    again[index]!.result.token_ids.every((id, k) => id === batch[index]!.result.token_ids[k]);
  const repeated = again.filter((_, index) => same(index)).length;
  let [compared, equal, undecided] = [0, 0, 0];
  await engine.watch("nothing");
  for (const [index, { result }] of again.slice(0, most).entries()) {
    const { prompt_token_ids: prompt, token_ids: drawn } = result;
    const alone = await engine.generate({
      ...greedy([...prompt, ...drawn.slice(0, -1)], 0),
      ...{ logits: "best", routing: { kind: "follow", name: name(index) } },
    });
    const { ids, margins } = alone.best!;
    for (const [k, token] of drawn.entries()) {
      const row = prompt.length - 1 + k;
      if (!(margins[row]! > decidedMargin)) undecided++;
      else {
        compared++;
        if (ids[row] === token) equal++;
      }
    }
  }
  const { followed, otherwise, furthest } = (await engine.watch("nothing")).routing;
  const share = followed === 0 ? 0 : otherwise / followed;
  return { compared, equal, undecided, repeated, sequences: batch.length, otherwise: share, furthest };
}
