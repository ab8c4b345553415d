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

function run(what: string): Record<string, unknown> {
  const script = join(import.meta.dirname, "fake", "engine-example.ts");
  const env = { ...process.env, HOME: home, XDG_STATE_HOME: home };
  const { status, stdout, stderr } = inNamespace([process.execPath, script, what], { env });
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
});
