/** A process of its own, in a namespace where the fake driver is the system's: starts an engine and prints what came of it. */
import { fstatSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { defaultRequest, type EngineOptions, readMachineFacts, startEarlyHost, startEngine } from "@kernlock/engine";
import { fillModel, type Model } from "@kernlock/engine/model";
import { abiBuild, opNames, ops } from "@kernlock/kernels/abi";
import { digestOf, KernlockError, type Variant } from "@kernlock/kernels/format";
import { memoryFile, type SealedKernel } from "@kernlock/loader";
import { compileFile } from "../../ops/compile.ts";
import { functions, words } from "./control.ts";

/** The library of kernels.cc as a package. `ptx`: what it holds and what it says of that, where it is not machine code. */
async function fakeKernel(ptx?: { declared: boolean; permitted: boolean }): Promise<SealedKernel> {
  // The host may open no file by name again: a memory file it may.
  const fd = await memoryFile("fake");
  const made = await compileFile(join(import.meta.dirname, "kernels.cc"), ptx === undefined ? [] : ["-DFAKE_PTX"]);
  writeSync(fd, readFileSync(made));
  const file = { path: "fake.so", digest: digestOf("fake"), size: fstatSync(fd).size };
  const both = ["f32", "bf16"] as const;
  const variant: Variant = {
    schema: "kernlock.variant/v1",
    ...{ package: "kernlock/fake", version: "1.2.3", abi: 0, abi_build: abiBuild },
    variant: ptx?.declared === true ? "linux-x86_64-cuda-ptx90" : "linux-x86_64-cuda-sm90a",
    platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
    backend: {
      ...{ kind: "cuda", driver: "13.0" },
      ...(ptx?.declared === true ? { architectures: [], ptx: ["sm_90"] } : { architectures: ["sm_90a"], ptx: [] }),
    },
    files: [{ ...file, kind: "shared-object" }],
    ops: opNames.map((name) => ({
      ...{ name, path: "fake", covers: [...ops[name].covers], mode: "bf16" as const, file: file.path },
      dtypes: { activation: ["bf16"], stream: [...both], kv: ["bf16"] },
      ...(name.startsWith("moe") ? { layouts: ["mxfp4.tiles" as const] } : {}),
      limits: {},
      features: ["sinks", "sliding_window", "paged", "varlen", "pdl"],
      workspace: { scratch: [], state: [] },
    })),
    tested: true,
    license: "Apache-2.0",
  } as unknown as Variant;
  return {
    ...{ name: "kernlock/fake", version: "1.2.3", index: digestOf("index"), manifest: digestOf("manifest") },
    ...{ variantKey: variant.variant, variant, signers: ["sha256:00"], files: [{ ...file, fd }] },
    permits: { untested: false, ptx: ptx?.permitted === true },
  } as unknown as SealedKernel;
}

/** Word of the driver's table in the state file, as control.ts lays it out. */
function setState(word: number, value: number): void {
  const file = openSync("/run/opengl-driver/lib/state", "r+");
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  writeSync(file, bytes, 0, 8, 8 * word);
}
function stateAt(word: number): number {
  return Number(readFileSync("/run/opengl-driver/lib/state").readBigUInt64LE(8 * word));
}
const rest = 3 * words;
const [total, faultKernel] = [rest, rest + 9];

async function start(model: Model, options: Partial<EngineOptions> = {}) {
  const { cuda, ...rest } = readMachineFacts();
  const machine = what === "no-device" ? rest : { ...rest, ...(cuda === undefined ? {} : { cuda }) };
  const request = defaultRequest({ device: "cuda", maxContext: 256, maxSequences: 4 });
  early?.prepare(machine);
  return startEngine({
    ...{ kernels: [await fakeKernel(ptx)], model, request, machine },
    ...(early === undefined ? {} : { early }),
    ...options,
  });
}

const what = process.argv[2];
const ptx = {
  ptx: { declared: true, permitted: true },
  "ptx-forbidden": { declared: true, permitted: false },
  "ptx-hidden": { declared: false, permitted: true },
}[what!];
const model = fillModel({ shape: "tiny", seed: 1 }, await memoryFile("model"));
const request = (i: number) => ({
  prompt: { tokenIds: [i, i + 1, i + 2] },
  maxNewTokens: 12,
  ignoreEos: true,
  sampling: { kind: "greedy" } as const,
});

/** `early` behind what is asked: the host is started before the plan is made. */
const early = process.argv[3] === "early" ? startEarlyHost("auto") : undefined;
const earlyPid = early?.pid;

const hostsLeft = (): number =>
  readFileSync(`/proc/self/task/${process.pid}/children`, "utf8")
    .split(" ")
    .filter((pid) => pid.trim() !== "" && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("host/main")).length;

async function outcome(): Promise<unknown> {
  if (what === "memory") {
    const machine = readMachineFacts();
    const cuda = {
      ...machine.cuda!,
      devices: machine.cuda!.devices.map((one) => ({ ...one, memory: 610e6, available: 610e6 })),
    };
    await using _ = await start(model, { machine: { ...machine, cuda } });
    return "started";
  }
  // The driver has less than `nvidia-smi` says.
  if (what === "no-context") {
    const call = functions.indexOf("cuDevicePrimaryCtxRetain");
    setState(words + call, 1);
    setState(2 * words + call, 2);
  }
  if (what === "exhausted") setState(total, 16 << 20);
  if (what === "lost" || what === "careful") setState(faultKernel, 250);
  await using engine = await start(model, { careful: what === "careful" });
  await engine.watch("times");
  const done = await engine.generateAll([1, 2, 3].map(request));
  for (const item of done) if (!item.ok) throw item.error;
  const { steps, memory } = await engine.watch("nothing");
  return {
    tokens: done.map((item) => (item.ok ? item.value.result.token_ids : [])),
    plan: { device: engine.plan.device, layout: engine.plan.expertLayout, planned: engine.plan.memory.total },
    ptx: engine.plan.ptx.map(({ kernel, target }) => [kernel, target]),
    ...{ driver: engine.driver, confinement: engine.confinement, steps, memory },
    timeline: engine.timeline.map(({ name }) => name),
    early: engine.pid === earlyPid,
  };
}

try {
  console.log(JSON.stringify(await outcome()));
} catch (error) {
  if (!(error instanceof KernlockError)) throw error;
  await early?.[Symbol.asyncDispose]();
  console.log(
    JSON.stringify({ ...error.toJSON(), hostsLeft: hostsLeft(), opened: stateAt(functions.indexOf("cuInit")) }),
  );
}
