/**
 * `npm run fuzz [-- SECONDS [TARGET...]]`: each target for so many seconds (10), one worker at a time for each core, with
 * what earlier runs kept under `.build/fuzz`. A finding is written there too and makes the command fail. With `--report`,
 * docs/security/fuzzing.md is written.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { report } from "./report.ts";
import { makeTargets, shortDigest } from "./targets.ts";
import type { Finding, Result, Work } from "./worker.ts";

const root = resolve(import.meta.dirname, "../..");
const home = join(root, ".build", "fuzz");
const stuckMs = 20_000;

export interface Fuzzed extends Result {
  readonly name: string;
  readonly what: string;
  readonly seconds: number;
}

const read = (folder: string): Uint8Array[] => {
  mkdirSync(folder, { recursive: true });
  return readdirSync(folder).map((name) => readFileSync(join(folder, name)));
};

function fuzz(name: string, seconds: number, seed: number): Promise<Result> {
  const progress = new Int32Array(new SharedArrayBuffer(8));
  const current = new Uint8Array(new SharedArrayBuffer(1 << 18));
  const workerData: Work = { target: name, seconds, seed, corpus: read(join(home, "corpus", name)), progress, current };
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 2048 },
  });
  return new Promise((done) => {
    const end = (what: string): void => {
      clearInterval(watch);
      void worker.terminate();
      const input = Uint8Array.from(current.subarray(0, progress[1]));
      done({
        runs: progress[0]!,
        behaviours: {},
        corpus: [],
        findings: [{ what, input }],
        slowestMs: stuckMs,
        coverage: {},
      });
    };
    let [last, since] = [-1, Date.now()];
    const watch = setInterval(() => {
      const runs = Atomics.load(progress, 0);
      if (runs !== last) [last, since] = [runs, Date.now()];
      else if (runs > 0 && Date.now() - since > stuckMs) end(`no end after ${stuckMs} ms`);
    }, 1000);
    worker.once("error", (error) => end(`the worker died: ${String(error)}`));
    worker.once("message", (result: Result) => {
      clearInterval(watch);
      done(result);
    });
  });
}

function keep(
  name: string,
  { corpus, findings }: { corpus: readonly Uint8Array[]; findings: readonly Finding[] },
): void {
  const [kept, found] = [join(home, "corpus", name), join(home, "findings", name)];
  for (const folder of [kept, found]) mkdirSync(folder, { recursive: true });
  for (const input of corpus) writeFileSync(join(kept, shortDigest(input)), input);
  for (const { what, input } of findings) {
    writeFileSync(join(found, shortDigest(input)), input);
    writeFileSync(join(found, `${shortDigest(input)}.txt`), `${what}\n`);
  }
}

const words = process.argv.slice(2).filter((word) => word !== "--report");
const seconds = Number(words[0] ?? "10");
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
const targets = (await makeTargets()).filter(({ name }) => words.length < 2 || words.slice(1).includes(name));
const results: Fuzzed[] = [];
const queue = targets.values();
console.log(`Fuzzing ${targets.length} targets for ${seconds} s each, seed ${seed}.`);
await Promise.all(
  Array.from({ length: Math.min(availableParallelism(), targets.length) }, async () => {
    for (const { name, what } of queue) {
      const result = await fuzz(name, seconds, seed);
      keep(name, result);
      results.push({ ...result, name, what, seconds });
      const { runs, behaviours, corpus, findings, slowestMs } = result;
      console.log(
        `${name}: ${runs} runs, ${Object.keys(behaviours).length} behaviours, ${corpus.length} kept, slowest ${Math.round(slowestMs)} ms, ${findings.length} findings`,
      );
      for (const finding of findings) console.log(`  ${finding.what} (${shortDigest(finding.input)})`);
    }
  }),
);
const text = report(results, seed);
console.log(text.summary);
if (process.argv.includes("--report")) writeFileSync(join(root, "docs", "security", "fuzzing.md"), text.page);
process.exitCode = results.some(({ findings }) => findings.length > 0) ? 1 : 0;
