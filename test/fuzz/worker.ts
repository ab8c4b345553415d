/** Fuzzes one target inside of a worker, until its time is over. The main thread sees what it is at, in shared memory. */
import { parentPort, workerData } from "node:worker_threads";
import { type Coverage, type LineCoverage, startCoverage } from "./coverage.ts";
import { mutateBytes, mutateField } from "./mutate.ts";
import { type Random, random } from "./random.ts";

export interface Work {
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
  /** Inputs that earlier runs found worth keeping. */
  readonly corpus: readonly Uint8Array[];
  /** [0] counts runs, [1] is the length of the input that is being run. */
  readonly progress: Int32Array;
  readonly current: Uint8Array;
}

export interface Result {
  readonly runs: number;
  readonly behaviours: Readonly<Record<string, number>>;
  readonly corpus: readonly Uint8Array[];
  readonly findings: readonly Finding[];
  readonly slowestMs: number;
  readonly coverage: Readonly<Record<string, LineCoverage>>;
}

export interface Finding {
  readonly what: string;
  readonly input: Uint8Array;
}

const maxInput = 1 << 18;
const maxCorpus = 2000;
const batch = 128;

async function work({ target: name, seconds, seed, corpus: kept, progress, current }: Work): Promise<Result> {
  const coverage = await startCoverage();
  const { makeTargets, behaviour } = await import("./targets.ts");
  const target = (await makeTargets()).find((t) => t.name === name)!;
  const r = random(seed);
  const corpus = [...target.seeds, ...kept];
  const behaviours: Record<string, number> = {};
  const findings: Finding[] = [];
  let [runs, slowestMs] = [0, 0];

  /** True when this behaviour is a new one. */
  const run = (input: Uint8Array): boolean => {
    current.set(input.subarray(0, maxInput));
    progress[1] = Math.min(input.length, maxInput);
    Atomics.store(progress, 0, ++runs);
    const start = performance.now();
    let found: string;
    try {
      found = behaviour(target, input);
    } catch (error) {
      found = `untyped ${String((error as Error)?.stack ?? error)
        .split("\n")
        .slice(0, 3)
        .join(" | ")}`;
      if (behaviours[found] === undefined) findings.push({ what: found, input: Uint8Array.from(input) });
    }
    slowestMs = Math.max(slowestMs, performance.now() - start);
    behaviours[found] = (behaviours[found] ?? 0) + 1;
    return behaviours[found] === 1;
  };
  const keep = (input: Uint8Array): void => {
    if (corpus.length < maxCorpus && input.length <= maxInput) corpus.push(Uint8Array.from(input));
  };

  for (const input of [...corpus]) run(input);
  await coverage.take();
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const inputs = Array.from({ length: batch }, () => mutated(corpus, r));
    for (const input of inputs) if (run(input)) keep(input);
    if (!(await coverage.take())) continue;
    // Something of this batch went where nothing had been; which of them does not matter much, a few are kept.
    for (const input of inputs.slice(0, 4)) keep(input);
  }
  return {
    runs,
    behaviours,
    corpus: corpus.slice(target.seeds.length),
    findings,
    slowestMs,
    coverage: await linesOf(coverage),
  };
}

async function linesOf(coverage: Coverage) {
  await coverage.take();
  return coverage.lines();
}

/** A field of what is JSON, or bytes of anything. */
export function mutated(corpus: readonly Uint8Array[], r: Random): Uint8Array {
  const input = r.pick(corpus);
  if (input[0] === 0x7b && r.below(2) === 0) {
    try {
      return Buffer.from(JSON.stringify(mutateField(JSON.parse(Buffer.from(input).toString()), r)));
    } catch {
      // No JSON any more: bytes, then.
    }
  }
  return mutateBytes(input, r, corpus).subarray(0, maxInput);
}

// The test runner has workers of its own, which are given no work of ours.
if (parentPort !== null && isWork(workerData)) parentPort.postMessage(await work(workerData));

function isWork(data: unknown): data is Work {
  return typeof data === "object" && data !== null && "target" in data && "progress" in data;
}
