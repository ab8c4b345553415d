import type { KernlockError } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import {
  architecturesOf,
  codeFor,
  type KernelFacts,
  type MachineFacts,
  type PlanFacts,
  type PlanRequest,
  plan,
  ptxRunsOn,
  runsOn,
} from "../index.ts";
import { cuda, five, gpuOf, gpus, kernel, machine, model, op, request } from "./facts.ts";

/** The five packages, compiled for an architecture. */
const built = (architecture: string, driver = "13.0"): KernelFacts[] =>
  five.map((one) => {
    const ops = one.descriptor.ops.map(({ name, layouts, features }) =>
      op(name, { ...(layouts ? { layouts } : {}), features, mode: "bf16", path: "cuda" }),
    );
    return kernel(one.name.slice(9), ops, { ...cuda, architectures: [architecture], driver } as typeof cuda);
  });
/** The same with PTX, which the policy permits. */
const withPtx = (architectures: string[], ptx: string[]): KernelFacts[] =>
  built("sm_80").map((one) => ({
    ...one,
    permits: { ptx: true, untested: false },
    descriptor: {
      ...one.descriptor,
      variant: `linux-x86_64-cuda-ptx${ptx.join("").replaceAll("sm_", "")}`,
      backend: { ...cuda, architectures, ptx } as typeof cuda,
    },
  }));
const on = (devices: MachineFacts["cuda"], facts: Partial<PlanFacts> = {}, asked: Partial<PlanRequest> = {}) =>
  plan({
    ...{ model, kernels: built("sm_90a"), machine: { ...machine, ...(devices ? { cuda: devices } : {}) } },
    request: { ...request, ...asked },
    ...facts,
  });
function refusal(run: () => unknown): KernlockError {
  try {
    run();
  } catch (error) {
    return error as KernlockError;
  }
  throw new Error("nothing was refused");
}
const h100 = gpuOf("9.0");

describe("which code runs where", () => {
  test.each([
    ["sm_90a", "9.0", true],
    ["sm_90a", "10.0", false],
    ["sm_90", "9.0", true],
    ["sm_80", "8.9", true],
    ["sm_89", "8.6", false],
    ["sm_80", "9.0", false],
    ["sm_100f", "10.3", true],
    ["sm_100a", "10.3", false],
    ["sm_120a", "12.0", true],
    ["nonsense", "9.0", false],
  ])("%s on %s: %s", (architecture, capability, expected) => {
    expect(runsOn(architecture, capability)).toBe(expected);
    expect(architecturesOf(capability).includes(architecture)).toBe(expected);
  });
  test.each([
    ["sm_80", "9.0", true],
    ["sm_90", "9.0", true],
    ["sm_90", "12.0", true],
    ["sm_90", "8.9", false],
    ["sm_90a", "9.0", true],
    ["sm_90a", "8.9", false],
    ["sm_90a", "10.0", false],
    ["sm_100f", "10.0", true],
    ["sm_100f", "10.3", true],
    ["sm_100f", "12.0", false],
    ["sm_103f", "10.0", false],
    ["sm_120f", "12.1", true],
    ["nonsense", "9.0", false],
    ["compute_90", "9.0", false],
  ])("PTX of %s on %s: %s", (target, capability, expected) => {
    expect(ptxRunsOn(target, capability)).toBe(expected);
  });
  test("machine code comes before PTX, and of PTX the newest and most specific that fits", () => {
    expect(codeFor({ architectures: ["sm_90"], ptx: ["sm_90a"] }, "9.0")).toEqual({ kind: "machine" });
    expect(codeFor({ architectures: ["sm_80"], ptx: ["sm_80", "sm_90"] }, "9.0")).toEqual({
      kind: "ptx",
      target: "sm_90",
    });
    expect(codeFor({ architectures: [], ptx: ["sm_90a", "sm_90", "sm_100"] }, "9.0")).toEqual({
      kind: "ptx",
      target: "sm_90a",
    });
    expect(codeFor({ architectures: [], ptx: ["sm_90a"] }, "10.0")).toBeNull();
  });
});

describe("refusals on GPUs", () => {
  test("D3: a driver that is too old", () => {
    const error = refusal(() => on({ ...gpus(h100), driver: "12.4" }));
    expect(error).toMatchObject({ code: "KL_PLAN_DRIVER", row: "D3" });
    expect(error.message).toContain("needs a driver for CUDA 13.0, this one runs 12.4");
  });
  test("G1: no machine code for the device", () => {
    const error = refusal(() => on(gpus(gpuOf("8.9"))));
    expect(error).toMatchObject({ code: "KL_PLAN_GPU", row: "G1" });
    expect(error.message).toContain("is for sm_90a, the device is sm_89 (a GPU of 8.9)");
  });
  test("G2: only PTX, unless the policy permits it", () => {
    const backend = { ...cuda, architectures: ["sm_80"], ptx: ["sm_80"] } as typeof cuda;
    const kernels = built("sm_80").map((one) => ({ ...one, descriptor: { ...one.descriptor, backend } }));
    expect(refusal(() => on(gpus(h100), { kernels }))).toMatchObject({ code: "KL_PLAN_GPU", row: "G2" });
    const permitted = kernels.map((one) => ({ ...one, permits: { ptx: true, untested: false } }));
    expect(on(gpus(h100), { kernels: permitted }).device).toBe("cuda:0");
  });
  test("G1: PTX for another device is none, whatever the policy permits", () => {
    const error = refusal(() => on(gpus(h100), { kernels: withPtx([], ["sm_100", "sm_120a"]) }));
    expect(error).toMatchObject({ code: "KL_PLAN_GPU", row: "G1" });
    expect(error.message).toContain("is for PTX sm_100, PTX sm_120a, the device is sm_90a");
  });
  test("G2: also where another package has ops that only run the node together with others", () => {
    const isNorm = (one: KernelFacts) => one.name === "kernlock/liger-rmsnorm";
    const [core, ...others] = built("sm_90a").filter((one) => !isNorm(one)) as [KernelFacts, ...KernelFacts[]];
    const fused = op("norm_qkv_rope_kv", { mode: "bf16", path: "cuda" });
    const kernels = [
      { ...core, descriptor: { ...core.descriptor, ops: [...core.descriptor.ops, fused] } },
      ...[...others, ...withPtx([], ["sm_90"]).filter(isNorm)],
    ].map((one) => ({ ...one, permits: { ptx: false, untested: false } }));
    expect(refusal(() => on(gpus(h100), { kernels }))).toMatchObject({ code: "KL_PLAN_GPU", row: "G2" });
  });
  test("D3: PTX does not make a driver newer", () => {
    const kernels = withPtx([], ["sm_90"]);
    expect(refusal(() => on({ ...gpus(h100), driver: "12.9" }, { kernels }))).toMatchObject({ row: "D3" });
  });
  test("G3: a variant that nobody has run, unless the policy permits it", () => {
    const kernels = built("sm_90a").map((one) => ({ ...one, descriptor: { ...one.descriptor, tested: false } }));
    expect(refusal(() => on(gpus(h100), { kernels }))).toMatchObject({ code: "KL_PLAN_UNTESTED", row: "G3" });
    const permitted = kernels.map((one) => ({ ...one, permits: { ptx: false, untested: true } }));
    expect(on(gpus(h100), { kernels: permitted }).device).toBe("cuda:0");
  });
  test("G4: a GPU that does not compute in bf16", () => {
    const error = refusal(() => on(gpus(gpuOf("7.5")), { kernels: built("sm_75") }));
    expect(error).toMatchObject({ code: "KL_PLAN_GPU", row: "G4" });
  });
  test("D4: a device that is not there", () => {
    expect(refusal(() => on(gpus(h100), {}, { device: "cuda:3" }))).toMatchObject({ code: "KL_PLAN_GPU", row: "D4" });
  });
  test("D2: a CUDA lock and no driver; D0: GPUs of another maker; P1: a Mac", () => {
    expect(refusal(() => on(undefined))).toMatchObject({ code: "KL_PLAN_NO_DRIVER", row: "D2" });
    const amd = { machine: { ...machine, otherGpus: ["AMD 1002:744c"] } };
    expect(refusal(() => on(undefined, amd))).toMatchObject({ code: "KL_PLAN_NO_DRIVER", row: "D0" });
    const mac = { machine: { ...machine, os: "darwin", arch: "arm64" } };
    const error = refusal(() => on(undefined, mac));
    expect(error).toMatchObject({ code: "KL_PLAN_PLATFORM", row: "P1" });
    expect(error.remedy).toContain("MLX");
    // A CPU lock on a machine with AMD GPUs is nobody's trouble.
    expect(plan({ model, kernels: five, request, machine: amd.machine }).device).toBe("cpu");
  });
  test("K1-device: the MXFP4 kernel has no code for the device, and the bf16 one has", () => {
    const kernels = [...built("sm_80").filter((one) => !one.name.endsWith("mxfp4")), built("sm_90a").at(-1)!];
    const asked = { policyAllowsDequant: false };
    const error = refusal(() => on(gpus(gpuOf("8.0")), { kernels }, asked));
    expect(error).toMatchObject({ code: "KL_PLAN_CONFLICT", row: "K1-device" });
    expect(error.message).toContain("kernlock/mxfp4 (linux-x86_64-cuda-sm90a) is for sm_90a, the device is sm_80");
    expect(error.message).toContain("(3.76 times)");
  });
});

describe("several GPUs", () => {
  test("of which the first cannot: the second is taken, and the plan says why", () => {
    const made = on(gpus(gpuOf("8.9"), h100));
    expect(made.device).toBe("cuda:1");
    expect(made.devices.map(({ device, chosen }) => [device, chosen])).toEqual([
      ["cuda:0", false],
      ["cuda:1", true],
    ]);
    expect(made.devices[0]?.reason).toContain("no machine code for this device");
    expect(made.memory.available).toBe(80e9 - 600e6);
  });
  test("of which the first is too small", () => {
    expect(on(gpus(gpuOf("9.0", 601e6), h100)).device).toBe("cuda:1");
  });
  test("of which none can: the first refusal, and every device's", () => {
    const error = refusal(() => on(gpus(gpuOf("8.9"), gpuOf("9.0", 1e6))));
    expect(error).toMatchObject({ code: "KL_PLAN_GPU", row: "G1" });
    expect(error.details?.devices).toHaveLength(2);
    expect(JSON.stringify(error.details?.devices)).toContain("are available");
  });
  test("one that is asked for is never swapped for another", () => {
    expect(refusal(() => on(gpus(gpuOf("8.9"), h100), {}, { device: "cuda:0" }))).toMatchObject({ row: "G1" });
    expect(on(gpus(gpuOf("8.9"), h100), {}, { device: "cuda:1" }).devices[1]?.reason).toBe("asked for");
  });
});

test("of two variants that run, the code closest to the device", () => {
  const kernels = [...built("sm_90"), ...built("sm_90a")];
  const ops = on(gpus(h100), { kernels }).ops;
  expect(new Set(ops.map(({ variant }) => variant))).toEqual(new Set(["linux-x86_64-cuda-sm90a"]));
  expect(ops[0]?.reason.code).toBe("architecture");
});

describe("PTX that the policy permits", () => {
  test("runs where there is nothing else, and the plan names what the driver compiles", () => {
    const made = on(gpus(h100), { kernels: withPtx([], ["sm_80", "sm_90"]) });
    const used = [...new Set([...made.ops, ...made.conversions].map(({ kernel }) => kernel))].sort();
    expect(made.ptx.map(({ kernel }) => kernel).sort()).toEqual(used);
    expect(made.ptx[0]).toMatchObject({
      variant: "linux-x86_64-cuda-ptx8090",
      target: "sm_90",
      digest: expect.stringMatching(/^sha256:/),
      text: expect.stringContaining("no digest covers"),
    });
  });
  test("gives way to machine code of the same ops, and then nothing is compiled", () => {
    for (const kernels of [
      [...withPtx([], ["sm_90a"]), ...built("sm_90")],
      [...built("sm_90"), ...withPtx([], ["sm_90a"])],
    ]) {
      const made = on(gpus(h100), { kernels });
      const used = new Set([...made.ops, ...made.conversions].map(({ variant }) => variant));
      expect(used).toEqual(new Set(["linux-x86_64-cuda-sm90"]));
      expect(made.ptx).toEqual([]);
      expect(made.ops[0]?.reason.code).toBe("machine_code");
    }
  });
  test("of one package beside machine code of the others: that one alone is compiled", () => {
    const isNorm = (one: KernelFacts) => one.name === "kernlock/liger-rmsnorm";
    const kernels = [...built("sm_90a").filter((one) => !isNorm(one)), ...withPtx([], ["sm_90"]).filter(isNorm)];
    expect(on(gpus(h100), { kernels }).ptx.map(({ kernel, target }) => [kernel, target])).toEqual([
      ["kernlock/liger-rmsnorm", "sm_90"],
    ]);
  });
  test("does not save an op: two of machine code come before one of PTX that covers both", () => {
    const fused = withPtx([], ["sm_90"]).filter((one) => one.name === "kernlock/mxfp4");
    const single = built("sm_90a").map((one) => ({
      ...one,
      descriptor: {
        ...one.descriptor,
        ops: one.descriptor.ops.filter(({ name }) => name !== "moe_residual"),
      },
    }));
    const made = on(gpus(h100), { kernels: [...fused, ...single] });
    expect(made.ops.map(({ op }) => op)).not.toContain("moe_residual/cuda");
    expect(made.ptx).toEqual([]);
  });
  test("of a layout gives way to machine code of another layout of the same numbers", () => {
    const tiles = withPtx([], ["sm_90"])
      .filter((one) => one.name === "kernlock/mxfp4")
      .map((one) => ({
        ...one,
        name: "kernlock/tiles",
        descriptor: {
          ...one.descriptor,
          ops: [op("moe", { layouts: ["mxfp4.tiles"], mode: "bf16", path: "cuda" }), op("mxfp4_tiles")],
        },
      }));
    const made = on(gpus(h100), { kernels: [...tiles, ...built("sm_90a")] });
    expect([made.expertLayout, made.ptx]).toEqual(["mxfp4.rows", []]);
    const alone = on(gpus(h100), {
      kernels: [...tiles, ...built("sm_90a").filter((one) => one.name !== "kernlock/mxfp4")],
    });
    expect(alone.expertLayout).toBe("mxfp4.tiles");
    expect(alone.ptx.map(({ kernel }) => kernel)).toEqual(["kernlock/tiles"]);
  });
  test("is chosen by device: on one GPU it is compiled, on the other it is not", () => {
    const kernels = withPtx(["sm_80"], ["sm_80"]);
    const both = gpus(gpuOf("8.0"), h100);
    expect(on(both, { kernels }, { device: "cuda:0" }).ptx).toEqual([]);
    expect(on(both, { kernels }, { device: "cuda:1" }).ptx.length).toBeGreaterThan(0);
  });
});
