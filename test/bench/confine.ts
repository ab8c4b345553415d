/**
 * What confinement costs: an engine's start, and its decoding, with and without. `node test/bench/confine.ts`, after
 * something has made the tests' project. Runs alternate, since the machine's mood changes.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { confinementFacts, defaultRequest, readMachineFacts } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { loadKernels, openCache, parseLock } from "@kernlock/loader";
import { parsePolicy } from "@kernlock/policies/trust";
import { startEngineIn } from "../../engine/client/engine.ts";
import type { StartProcess } from "../../engine/client/host.ts";
import { allowedToHost, spawnConfined } from "../../engine/confine/index.ts";
import { root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";

const rounds = 21;
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const { folder } = await testProject();
const read = (name: string): Uint8Array => readFileSync(join(folder, name));
const loaded = await loadKernels({
  lock: parseLock(read("kernels.lock")),
  policy: parsePolicy(read("kernels.policy.yaml")),
  cache: openCache(join(folder, "cache")),
  machine: readMachineFacts(),
  now: new Date(),
});
const plain: StartProcess = (main, stdio) =>
  spawn(process.execPath, [main], { cwd: "/", env: { UV_USE_IO_URING: "0" }, stdio: [...stdio] });

async function engine(start?: StartProcess): Promise<{ start: number; token: number }> {
  const model = openModel(join(root, "test/golden/tiny-mxfp4"));
  const begin = performance.now();
  await using engine = await startEngineIn({ kernels: loaded.kernels, model, request: defaultRequest() }, start);
  const ready = performance.now();
  const { result } = await engine.generate({ prompt: { tokenIds: [1] }, maxNewTokens: 200, ignoreEos: true });
  model.close();
  return { start: ready - begin, token: result.timing.decode_ms / 199 };
}

/** Until Node has ended that had nothing to do. */
async function node(confined: boolean): Promise<number> {
  const begin = performance.now();
  const child = confined
    ? spawnConfined({
        args: ["-e", "0"],
        env: {},
        stdio: ["ignore", "ignore", "ignore"],
        allowed: allowedToHost(false),
        effort: "required",
      })
    : spawn(process.execPath, ["--openssl-config=/dev/null", "-e", "0"], { env: {}, stdio: "ignore", cwd: "/" });
  await new Promise((ended) => child.once("exit", ended));
  return performance.now() - begin;
}

const began = performance.now();
confinementFacts();
console.log(`probe, once a process: ${(performance.now() - began).toFixed(1)} ms`);
const rows: Record<"plain" | "confined", { node: number[]; start: number[]; token: number[] }> = {
  plain: { node: [], start: [], token: [] },
  confined: { node: [], start: [], token: [] },
};
for (let round = 0; round < rounds; round++) {
  for (const kind of ["plain", "confined"] as const) {
    rows[kind].node.push(await node(kind === "confined"));
    const { start, token } = await engine(kind === "confined" ? undefined : plain);
    rows[kind].start.push(start);
    rows[kind].token.push(token);
  }
}
for (const what of ["node", "start", "token"] as const) {
  const [a, b] = [rows.plain[what], rows.confined[what]];
  const digits = what === "token" ? 3 : 1;
  const text = (values: number[]): string =>
    `median ${median(values).toFixed(digits)}, best ${Math.min(...values).toFixed(digits)}`;
  console.log(`${what.padEnd(6)} (ms)  plain: ${text(a)}; confined: ${text(b)}`);
}
loaded.close();
