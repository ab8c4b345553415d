/**
 * `npm run bench:cpu`: tokens per second of the dictionary model and of a four-layer slice in the widths of gpt-oss-20b,
 * and how near single ops come to what a plain read loop reaches on the same cores in the same run. Medians; prints a
 * table and writes `.build/bench/cpu.json`. Needs about 5 GB of disk and of memory for the slice.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { defaultRequest, type Engine, readMachineFacts, startEngine } from "@kernlock/engine";
import { makeModel, openModel } from "@kernlock/engine/model";
import { loadKernels, openCache, parseLock } from "@kernlock/loader";
import { parsePolicy } from "@kernlock/policies/trust";
import { root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";
import { benchOps, formatTimings } from "./ops.ts";

const folder = join(root, ".build", "bench");
mkdirSync(folder, { recursive: true });

interface Row {
  readonly model: string;
  readonly what: string;
  /** Tokens per second: median, and the range over the repetitions. */
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function benchModel(
  name: string,
  modelFolder: string,
  promptTokens: number,
  newTokens: number,
  repeats: number,
): Promise<Row[]> {
  const { folder: project } = await testProject();
  const loaded = await loadKernels({
    lock: parseLock(readFileSync(join(project, "kernels.lock"))),
    policy: parsePolicy(readFileSync(join(project, "kernels.policy.yaml"))),
    cache: openCache(join(project, "cache")),
    machine: readMachineFacts(),
    now: new Date(),
  });
  const model = openModel(modelFolder);
  const engine = await startEngine({
    kernels: loaded.kernels,
    model,
    request: defaultRequest({ maxContext: 2048, maxSequences: 8 }),
  });
  try {
    const row = (what: string, values: readonly number[]): Row => ({
      ...{ model: name, what, median: median(values) },
      ...{ low: Math.min(...values), high: Math.max(...values) },
    });
    const repeat = async (batch: number, prompt: number, tokens: number): Promise<Speeds[]> => {
      const runs: Speeds[] = [];
      for (let i = 0; i <= repeats; i++) runs.push(await run(engine, model.config.vocab, batch, prompt, tokens));
      // The first run builds programs and touches memory.
      return runs.slice(1);
    };
    const rows = [
      row(
        `prefill ${promptTokens}`,
        (await repeat(1, promptTokens, 1)).map((r) => r.prefill),
      ),
    ];
    // Prompts of one token: what is timed is decoding, not one sequence's prompt beside another's answer.
    for (const batch of [1, 8])
      rows.push(
        row(
          `decode, batch ${batch}`,
          (await repeat(batch, 1, newTokens)).map((r) => r.decode),
        ),
      );
    return rows;
  } finally {
    await engine.close();
    model.close();
    loaded.close();
  }
}

interface Speeds {
  readonly prefill: number;
  readonly decode: number;
}

async function run(
  engine: Engine,
  vocab: number,
  batch: number,
  promptTokens: number,
  newTokens: number,
): Promise<Speeds> {
  const requests = Array.from({ length: batch }, (_, b) => ({
    prompt: { tokenIds: Array.from({ length: promptTokens }, (_, i) => (i * 7919 + b * 104729 + 13) % vocab) },
    maxNewTokens: newTokens,
    ignoreEos: true,
    sampling: { kind: "greedy" } as const,
  }));
  const done = await engine.generateAll(requests);
  const timings = done.map((item) => {
    if (!item.ok) throw item.error;
    return item.value.result.timing;
  });
  const prefill = promptTokens / ((timings[0]?.prefill_ms ?? Number.NaN) / 1000);
  // All sequences decode together; the slowest one's time is the batch's.
  const decode = (batch * (newTokens - 1)) / (Math.max(...timings.map((t) => t.decode_ms)) / 1000);
  return { prefill, decode };
}

const slice = join(folder, "slice-20b-4-layers");
if (!existsSync(join(slice, "config.json"))) makeModel({ shape: "gpt-oss-20b", layers: 4, seed: 1, folder: slice });

const rows = [
  ...(await benchModel("dictionary", join(root, "models", "dictionary"), 256, 128, 5)),
  ...(await benchModel("20b widths, 4 layers", slice, 128, 16, 3)),
];
const ops = await benchOps();

const machine = `${cpus()[0]?.model}, ${readMachineFacts().cpu.cores} cores, ${readMachineFacts().cpu.level}`;
writeFileSync(
  join(folder, "cpu.json"),
  `${JSON.stringify({ machine, node: process.version, models: rows, ops }, null, 2)}\n`,
);
console.log(`${machine}\n`);
console.log("| model | what | tokens/s | range |\n|---|---|---:|---:|");
for (const row of rows)
  console.log(
    `| ${row.model} | ${row.what} | ${row.median.toFixed(1)} | ${row.low.toFixed(1)} to ${row.high.toFixed(1)} |`,
  );
console.log(`\n${formatTimings(ops)}`);
