/** A host that was started before the plan: used where it fits, gone where it does not, and confined like any other. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import {
  defaultRequest,
  type EarlyHost,
  type Engine,
  type EngineOptions,
  readMachineFacts,
  startEarlyHost,
  startEngine,
} from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import type { PlanRequest } from "@kernlock/policies/compatibility";
import { expect, test } from "vitest";
import { witness } from "../../engine/confine/index.ts";
import { models, sealedKernels } from "./engines.ts";

async function start(
  early: EarlyHost | undefined,
  asked: Partial<PlanRequest> = {},
  more: Partial<EngineOptions> = {},
): Promise<Engine> {
  const kernels = await sealedKernels();
  const model = openModel(models.tiny);
  try {
    const request = defaultRequest({ device: "cpu", ...asked });
    return await startEngine({ kernels, model, request, ...(early === undefined ? {} : { early }), ...more });
  } finally {
    model.close();
  }
}

async function answer(engine: Engine): Promise<readonly number[]> {
  const { result } = await engine.generate({
    ...{ prompt: { tokenIds: [5, 6, 7] }, maxNewTokens: 8, ignoreEos: true },
    sampling: { kind: "greedy" },
  });
  return result.token_ids;
}

const runs = (pid: number): boolean => existsSync(`/proc/${pid}`) && !/^State:\s*Z/m.test(status(pid));
const status = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "State: Z";
  }
};
const openFiles = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
const ofKernels = (pid: number): string[] => openFiles(pid).filter((path) => path.includes("kernlock:"));
const sockets = (pid: number): number => openFiles(pid).filter((path) => path.startsWith("socket:")).length;

test("runs the plan, has no kernel before it and no way to get another one after it", async () => {
  await using plain = await start(undefined);
  const wanted = await answer(plain);
  await using early = startEarlyHost("cpu");
  const pid = early.pid!;
  early.prepare(readMachineFacts());
  const confined = { no_new_privs: true, no_capabilities: true };
  await expect.poll(() => witness(pid, "required"), { timeout: 60_000 }).toMatchObject({ ...confined, seccomp: false });
  expect(ofKernels(pid)).toEqual([]);
  const before = sockets(pid);
  await using engine = await start(early);
  expect([engine.pid, early.pid]).toEqual([pid, null]);
  expect(ofKernels(pid).length).toBeGreaterThan(0);
  expect(sockets(pid)).toBe(before - 1);
  expect(engine.confinement).toEqual(plain.confinement);
  expect(witness(pid, "required")).toMatchObject({ seccomp: true });
  expect(await answer(engine)).toEqual(wanted);
  const names = engine.timeline.map(({ name }) => name);
  expect(names.slice(0, 2)).toEqual(["process and imports of the host", "waited for the plan"]);
  const starts = engine.timeline.map(({ at }) => at);
  expect(Math.min(...starts)).toBeGreaterThan(performance.timeOrigin);
}, 300_000);

test("is gone when the plan is refused, and the refusal is what it would have been", async () => {
  const early = startEarlyHost("cpu");
  const pid = early.pid!;
  const refused = { maxContext: 1 << 30 };
  const plain = await start(undefined, refused).catch((error: unknown) => error);
  expect(plain).toMatchObject({ code: expect.stringMatching(/^KL_PLAN_/) });
  await expect(start(early, refused)).rejects.toEqual(plain);
  await early[Symbol.asyncDispose]();
  expect(runs(pid)).toBe(false);
}, 300_000);

test("is not used by a policy that is content with less confinement, nor for another device", async () => {
  for (const [device, asked] of [
    ["cpu", { confinement: "best-effort" }],
    ["cuda:7", {}],
  ] as const) {
    await using early = startEarlyHost(device);
    const pid = early.pid!;
    early.prepare({ ...readMachineFacts(), ...(device === "cpu" ? {} : { cuda: eightDevices }) });
    await using engine = await start(early, asked);
    // Where there is no driver, a host for any device is one for the CPU, and fits.
    if (device === "cpu") expect(engine.pid).not.toBe(pid);
    expect(runs(pid)).toBe(engine.pid === pid);
    expect(engine.confinement).toMatchObject({ effort: device === "cpu" ? "best-effort" : "required" });
    expect(await answer(engine)).toHaveLength(8);
  }
}, 300_000);
const eightDevices = {
  driver: "13.0",
  architectures: ["sm_90a"],
  devices: Array.from({ length: 8 }, () => ({ name: "x", capability: "9.0", architecture: "sm_90a", memory: 1 })),
};

test("that has ended before it was needed is told as the death of a host", async () => {
  await using early = startEarlyHost("cpu");
  process.kill(early.pid!, "SIGSEGV");
  await expect.poll(() => runs(early.pid!), { timeout: 60_000 }).toBe(false);
  await expect(start(early)).rejects.toMatchObject({
    code: "KL_ENGINE_DIED",
    message: expect.stringContaining("SIGSEGV"),
  });
}, 300_000);

test("is used once: the next engine has a host of its own", async () => {
  await using early = startEarlyHost("cpu");
  const pid = early.pid;
  await using first = await start(early);
  await using second = await start(early);
  expect(first.pid).toBe(pid);
  expect(second.pid).not.toBe(pid);
  expect(await answer(second)).toEqual(await answer(first));
}, 300_000);
