/**
 * `npm run bench:load`: verifying and loading the five packages, from the call to the op tables, each time in a process
 * of its own as a user would meet it; beside it a plain `dlopen` of the same files. Medians in milliseconds.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";

const stages = [
  "imports",
  "parse lock and policy",
  "verify, judge and seal",
  "dlopen and op tables",
  "plain dlopen",
] as const;
type Sample = Readonly<Record<(typeof stages)[number], number>>;

async function measure(project: string): Promise<Sample> {
  const times: number[] = [performance.now()];
  const { loadKernels, openCache, parseLock } = await import("@kernlock/loader");
  const { parsePolicy } = await import("@kernlock/policies/trust");
  const { readMachineFacts } = await import("@kernlock/engine");
  const { openDevice, openLibrary } = await import("@kernlock/engine/native");
  const machine = readMachineFacts();
  const device = openDevice({ kind: "cpu" });
  times.push(performance.now());
  const lock = parseLock(readFileSync(join(project, "kernels.lock")));
  const policy = parsePolicy(readFileSync(join(project, "kernels.policy.yaml")));
  const cache = openCache(join(project, "cache"));
  times.push(performance.now());
  const loaded = await loadKernels({ lock, policy, cache, machine, now: new Date() });
  times.push(performance.now());
  const files = loaded.kernels.flatMap((kernel) => kernel.files);
  const ops = files.flatMap((file) => openLibrary(file.fd, device).ops);
  times.push(performance.now());
  for (const { digest, size } of files) openLibrary(openSync(cache.pathOf({ digest, size }), "r"), device);
  times.push(performance.now());
  if (ops.length < 10) throw new Error("the op tables are not there");
  return Object.fromEntries(stages.map((name, i) => [name, (times[i + 1] ?? 0) - (times[i] ?? 0)])) as Sample;
}

const project = process.argv[2];
if (project !== undefined) {
  process.stdout.write(`${JSON.stringify(await measure(project))}\n`);
  process.exit(0);
}

const { folder } = await testProject();
const runs = 21;
const samples: (Sample & { total: number; process: number })[] = [];
for (let i = 0; i <= runs; i++) {
  const started = performance.now();
  const { stdout, stderr } = spawnSync(process.execPath, [import.meta.filename, folder], { encoding: "utf8" });
  const whole = performance.now() - started;
  const sample = JSON.parse(stdout || `"${stderr}"`) as Sample;
  const total = sample["parse lock and policy"] + sample["verify, judge and seal"] + sample["dlopen and op tables"];
  // The first one fills the page cache and builds the addons.
  if (i > 0) samples.push({ ...sample, total, process: whole });
}
const rows = [...stages, "total", "process"] as const;
const summary = rows.map((name) => {
  const sorted = samples.map((sample) => sample[name]).toSorted((a, b) => a - b);
  return { name, low: sorted[0] ?? 0, median: sorted[sorted.length >> 1] ?? 0, high: sorted.at(-1) ?? 0 };
});
const machine = `${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}`;
mkdirSync(join(root, ".build", "bench"), { recursive: true });
writeFileSync(join(root, ".build", "bench", "load.json"), `${JSON.stringify({ machine, runs, summary }, null, 2)}\n`);
console.log(`${machine}, ${runs} processes\n\n| stage | median ms | range |\n|---|---:|---:|`);
for (const { name, low, median, high } of summary) {
  const label =
    name === "total"
      ? "**from the call to the op tables**"
      : name === "process"
        ? "whole process, its start included"
        : name;
  console.log(`| ${label} | ${median.toFixed(1)} | ${low.toFixed(1)} to ${high.toFixed(1)} |`);
}
