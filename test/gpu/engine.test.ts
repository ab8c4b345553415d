/**
 * The whole engine on a GPU that is not there: planning, confinement, loading, programs, graphs, memory, in the process
 * that would drive a real one. Kernels of the fake compute nothing, so every answer is token 0.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compileFile } from "../ops/compile.ts";
import { canUseNamespace, inNamespace } from "./fake/namespace.ts";

const home = mkdtempSync(join(tmpdir(), "kernlock-fake-home-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));
beforeAll(async () => {
  // Made once, for all that follow.
  for (const flags of [[], ["-DFAKE_PTX"]]) await compileFile(join(import.meta.dirname, "fake", "kernels.cc"), flags);
}, 300_000);

function run(...what: string[]): Record<string, unknown> {
  const script = join(import.meta.dirname, "fake", "engine-example.ts");
  const env = { ...process.env, HOME: home, XDG_STATE_HOME: home };
  const { status, stdout, stderr } = inNamespace([process.execPath, script, ...what], { env });
  if (status !== 0) throw new Error(`${what} ended with ${status}\n${stderr}`);
  return JSON.parse(stdout) as Record<string, unknown>;
}

describe.skipIf(!canUseNamespace())("an engine with the fake driver (needs root and mount namespaces)", () => {
  test("runs in graphs, a step handed over before the last is read, and counts its memory", () => {
    const { tokens, plan, ptx, driver, confinement, steps, memory, timeline } = run("generate") as {
      tokens: number[][];
      plan: { device: string; layout: string; planned: number };
      ptx: string[][];
      driver: { device: string; cuda: string };
      confinement: { landlock: number; seccomp: boolean };
      steps: { bucket: string; sequences: number }[];
      memory: { given: number; used: number };
      timeline: string[];
    };
    expect(tokens).toEqual([Array(12).fill(0), Array(12).fill(0), Array(12).fill(0)]);
    expect(plan).toMatchObject({ device: "cuda:0", layout: "mxfp4.tiles" });
    expect(ptx).toEqual([]);
    expect(driver).toMatchObject({ device: "Fake H100", cuda: "13.0" });
    expect(confinement).toMatchObject({ seccomp: true });
    expect(steps.filter((step) => step.bucket === "decode" && step.sequences === 3).length).toBeGreaterThan(8);
    expect(memory.given).toBeGreaterThan(0);
    expect(memory.given).toBeLessThanOrEqual(plan.planned + (1 << 16));
    expect(memory.used).toBeGreaterThan(memory.given);
    expect(timeline).toContain("reservation");
  }, 300_000);

  test("has the driver compile PTX where plan and policy say so, in its confinement and without a cache on disk", () => {
    const { tokens, ptx, confinement } = run("ptx") as { tokens: number[][]; ptx: string[][]; confinement: object };
    expect(ptx).toEqual([["kernlock/fake", "sm_90"]]);
    expect(tokens).toEqual([Array(12).fill(0), Array(12).fill(0), Array(12).fill(0)]);
    expect(confinement).toMatchObject({ seccomp: true });
  }, 300_000);

  test("has it compile nothing where the policy does not, nor PTX that no plan knows of", () => {
    expect(run("ptx-forbidden")).toMatchObject({ code: "KL_PLAN_GPU", row: "G2" });
    expect(run("ptx-hidden")).toMatchObject({
      code: "KL_LOAD_INSTANCE",
      message: expect.stringContaining("CUDA_ERROR_JIT_COMPILATION_DISABLED"),
    });
  }, 300_000);

  test("a device that is lost in the middle ends the requests with what the driver said", () => {
    expect(run("lost")).toMatchObject({ code: "KL_DEVICE_FAULT" });
    expect(run("careful")).toMatchObject({
      code: "KL_OP_FAILED",
      message: expect.stringMatching(/Step \d+ \(\w+\/fake of kernlock\/fake 1\.2\.3 \(sha256:/),
    });
  }, 300_000);

  test("memory that there is not is refused before anything is loaded", () => {
    expect(run("memory")).toMatchObject({ code: "KL_PLAN_MEMORY" });
    expect(run("exhausted")).toMatchObject({ code: "KL_MEMORY_ALLOCATE" });
  }, 300_000);

  test("a host that was started before the plan has opened the device by then, and answers the same", () => {
    const { early, tokens, confinement, timeline, driver } = run("generate", "early") as {
      early: boolean;
      tokens: number[][];
      confinement: object;
      timeline: string[];
      driver: object;
    };
    expect(early).toBe(true);
    expect(tokens).toEqual([Array(12).fill(0), Array(12).fill(0), Array(12).fill(0)]);
    expect(driver).toMatchObject({ device: "Fake H100" });
    expect(confinement).toMatchObject({ effort: "required", seccomp: true, no_new_privs: true, no_capabilities: true });
    const order = ["driver and context", "staging memory", "waited for the plan", "kernels", "weights"];
    expect(timeline.filter((name) => order.includes(name))).toEqual(order);
  }, 300_000);

  test("such a host compiles no PTX: a plan that wants it gets another", () => {
    const { early, tokens } = run("ptx", "early") as { early: boolean; tokens: number[][] };
    expect([early, tokens.length]).toEqual([false, 3]);
    expect(run("ptx-hidden", "early")).toMatchObject({
      code: "KL_LOAD_INSTANCE",
      message: expect.stringContaining("CUDA_ERROR_JIT_COMPILATION_DISABLED"),
    });
  }, 300_000);

  test("what it cannot open, and a plan that is refused, are told as ever, and no host is left", () => {
    const wanted = run("no-context");
    expect(wanted).toMatchObject({ code: "KL_DEVICE_OPEN", hostsLeft: 0 });
    expect(run("no-context", "early")).toEqual(wanted);
    expect(run("memory", "early")).toMatchObject({ code: "KL_PLAN_MEMORY", hostsLeft: 0 });
    expect(run("exhausted", "early")).toMatchObject({ code: "KL_MEMORY_ALLOCATE", hostsLeft: 0 });
    expect(run("no-device", "early")).toMatchObject({
      code: expect.stringMatching(/^KL_PLAN/),
      hostsLeft: 0,
      opened: 0,
    });
  }, 300_000);
});
