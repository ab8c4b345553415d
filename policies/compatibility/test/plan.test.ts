import { KernlockError } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { type Bucket, type PlanFacts, type PlanRequest, parsePin, plan } from "../index.ts";
import {
  core,
  cpu,
  cuda,
  fa3,
  five,
  gpu,
  kernel,
  machine,
  megablocks,
  model,
  mxfp4,
  norm,
  op,
  request,
} from "./facts.ts";

const names = five.map(({ name }) => name);
const pin = (...texts: string[]) => texts.map((text) => parsePin(text, names));
const make = (asked: Partial<PlanRequest> = {}, facts: Partial<PlanFacts> = {}) =>
  plan({ model, machine, kernels: five, request: { ...request, ...asked }, ...facts });

function refusal(run: () => unknown): KernlockError {
  try {
    run();
  } catch (error) {
    if (error instanceof KernlockError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

const opsOf = (made: ReturnType<typeof plan>, bucket: Bucket): string[] =>
  made.ops.filter((one) => one.bucket === bucket).map((one) => `${one.kernel.slice(9)} ${one.op}`);

describe("covers", () => {
  test("take the op that runs the most nodes, and attention made for decode in decode steps", () => {
    const rest = ["transformer-core lm_head/cpp", "transformer-core sample/cpp"];
    const layer = (attention: string) => [
      ...["liger-rmsnorm rmsnorm/cpp", "transformer-core qkv_rope_kv/cpp", `fa3-sinks ${attention}/cpp`],
      ...["transformer-core o_proj_residual/cpp", "liger-rmsnorm rmsnorm/cpp", "transformer-core router/cpp"],
      "mxfp4 moe_residual/cpp",
    ];
    const whole = (attention: string) => [
      "transformer-core embed/cpp",
      ...layer(attention),
      "liger-rmsnorm rmsnorm/cpp",
      ...rest,
    ];
    expect(opsOf(make(), "decode")).toEqual(whole("attn_decode"));
    expect(opsOf(make(), "mixed")).toEqual(whole("attn_prefill"));
  });

  test("run every node of every layer exactly once and in order", () => {
    const made = make();
    for (const bucket of ["decode", "mixed"] as const) {
      for (const layer of model.layers.keys()) {
        const covered = made.ops.filter((one) => one.bucket === bucket && one.layers.includes(layer));
        expect(covered.flatMap((one) => one.covers)).toEqual([
          ...["norm", "qkv", "rope", "kv_write", "attn", "o_proj", "residual"],
          ...["norm", "router", "moe_up", "moe_down", "residual"],
        ]);
      }
    }
  });

  test("a pinned node leaves a fusion that the pinned kernel does not have", () => {
    const residual = make({ pins: pin("residual=transformer-core") });
    expect(opsOf(residual, "decode")).toContain("mxfp4 moe/cpp");
    expect(opsOf(residual, "decode")).toContain("transformer-core residual/cpp");
    expect(opsOf(residual, "decode")).toContain("transformer-core o_proj_residual/cpp");
    expect(residual.ops.find((one) => one.op === "residual/cpp")?.reason.code).toBe("pinned");
  });

  test("layers of two kinds may take two attention kernels", () => {
    const sinks = op("attn_decode", { features: ["sinks", "paged"] });
    const fullOnly = kernel("a-full-attention", [sinks]);
    const made = make({}, { kernels: [...five, fullOnly] });
    const decode = made.ops.filter((one) => one.bucket === "decode" && one.covers.includes("attn"));
    expect(decode.map((one) => [one.kernel, one.layers])).toEqual([
      ["kernlock/fa3-sinks", [0, 2]],
      ["kernlock/a-full-attention", [1, 3]],
    ]);
  });

  test("a newer instruction set is taken where the CPU has it", () => {
    const v4 = kernel("liger-rmsnorm", [op("rmsnorm")], { kind: "cpu", level: "x86-64-v4" });
    const pick = (level: "x86-64-v3" | "x86-64-v4") =>
      make({}, { kernels: [...five, v4], machine: { ...machine, cpu: { ...machine.cpu, level } } }).ops.find((one) =>
        one.covers.includes("norm"),
      );
    expect(pick("x86-64-v4")).toMatchObject({ variant: "linux-x86_64-cpu-v4", reason: { code: "cpu_level" } });
    expect(pick("x86-64-v3")).toMatchObject({ variant: "linux-x86_64-cpu-v3", reason: { code: "only_candidate" } });
  });
});

test("every op that is not taken has its reason", () => {
  const reasons = Object.fromEntries(
    make().declined.map(({ kernel: from, op: by, reason }) => [`${from} ${by}`, reason]),
  );
  expect(reasons).toEqual({
    "kernlock/megablocks-moe moe/cpp": "reads weights as bf16.rows, not mxfp4.rows",
    "kernlock/megablocks-moe moe_residual/cpp": "reads weights as bf16.rows, not mxfp4.rows",
    "kernlock/mxfp4 moe/cpp": "would do, and another op covers more or comes first",
    "kernlock/transformer-core o_proj/cpp": "would do, and another op covers more or comes first",
    "kernlock/transformer-core residual/cpp": "would do, and another op covers more or comes first",
  });
});

describe("experts", () => {
  test("MXFP4 is used as it lies, and needs no conversion but q, k and v in one matrix", () => {
    const made = make();
    expect(made.expertLayout).toBe("mxfp4.rows");
    expect(made.conversions.map(({ kind, op: by }) => [kind, by])).toEqual([["pack", "copy_rows/cpp"]]);
    expect(made.ops.find((one) => one.op.startsWith("moe"))?.layout).toBe("mxfp4.rows");
  });

  test("K1: a bf16 kernel on MXFP4 is refused with the price and the two ways out", () => {
    const error = refusal(() => make({ pins: pin("moe=megablocks-moe") }));
    expect(error).toMatchObject({ code: "KL_PLAN_CONFLICT", row: "K1" });
    expect(error.message).toContain("kernlock/megablocks-moe: the kernel reads bf16 experts");
    expect(error.message).toContain("12.6 MB instead of 3.3 MB (3.76 times)");
    expect(error.remedy).toMatch(/--kernel moe=mxfp4.*--allow-dequant/);
    expect(error.details).toEqual({
      kernel: "kernlock/megablocks-moe",
      expert_bytes: 3342336,
      dequantized_bytes: 12582912,
      extra_bytes: 9240576,
    });
  });

  test("K1 without a pin, when the lock has no other kernel", () => {
    const kernels = [core, norm, fa3, megablocks, kernel("tools", [op("mxfp4_dequantize")])];
    expect(refusal(() => make({}, { kernels }))).toMatchObject({ code: "KL_PLAN_CONFLICT", row: "K1" });
  });

  test("the flag dequantises where the policy permits, as a decision of its own", () => {
    const made = make({ pins: pin("moe=megablocks-moe"), allowDequant: true });
    expect(made.expertLayout).toBe("bf16.rows");
    expect(made.conversions[1]).toMatchObject({
      kind: "dequantize",
      op: "mxfp4_dequantize/cpp",
      kernel: "kernlock/mxfp4",
      bytes: 12582912,
      reason: { code: "dequantized", row: "K1-dequant" },
    });
    expect(made.memory.weights).toBe(model.bytes.other + 12582912);
  });

  test("the flag alone changes nothing where MXFP4 can be used", () => {
    expect(make({ allowDequant: true })).toEqual(make());
  });

  test("a policy that forbids it has the last word", () => {
    const asked = { pins: pin("moe=megablocks-moe"), allowDequant: true, policyAllowsDequant: false };
    expect(refusal(() => make(asked))).toMatchObject({ code: "KL_PLAN_DEQUANT_FORBIDDEN", row: "K1-policy" });
  });

  test("bf16 experts run as they are, or transposed once", () => {
    const bytes = { ...model.bytes, experts: 12582912 };
    const plain = make({}, { model: { ...model, bytes, expertFormat: "bf16.out_in" } });
    expect(plain.ops.find((one) => one.op.startsWith("moe"))?.kernel).toBe("kernlock/megablocks-moe");
    expect(plain.conversions).toHaveLength(1);
    const transposed = make({}, { model: { ...model, bytes, expertFormat: "bf16.in_out" } });
    expect(transposed.conversions[1]).toMatchObject({ kind: "transpose", reason: { row: "B2" } });
  });

  test("M14: bf16 experts are never quantised", () => {
    const facts = { model: { ...model, expertFormat: "bf16.out_in" as const } };
    expect(refusal(() => make({ pins: pin("moe=mxfp4") }, facts))).toMatchObject({
      code: "KL_PLAN_CONFLICT",
      row: "M14",
    });
  });

  test("tiles are the same numbers in another order: taken without a flag, and said", () => {
    const tiled = kernel("mxfp4", [op("moe_residual", { layouts: ["mxfp4.tiles"] }), op("mxfp4_tiles")]);
    const made = make({}, { kernels: [core, norm, fa3, megablocks, tiled] });
    expect(made.expertLayout).toBe("mxfp4.tiles");
    expect(made.conversions[1]).toMatchObject({ kind: "tile", reason: { row: "M1-tiles" } });
  });
});

describe("devices and modes", () => {
  const gpuLock = five.map((one) => ({ ...one, descriptor: { ...one.descriptor, backend: cuda } }));

  test("auto is the CPU with a CPU lock", () => expect(make().device).toBe("cpu"));
  test("D1: a GPU asked for and no driver", () => {
    expect(refusal(() => make({ device: "cuda" }))).toMatchObject({ code: "KL_PLAN_NO_DRIVER", row: "D1" });
  });
  test("D2: auto with a CUDA lock and no driver is not moved to the CPU", () => {
    for (const kernels of [gpuLock, [...gpuLock, ...five]]) {
      expect(refusal(() => make({}, { kernels }))).toMatchObject({ code: "KL_PLAN_NO_DRIVER", row: "D2" });
    }
    expect(make({ device: "cpu" }, { kernels: [...gpuLock, ...five] }).device).toBe("cpu");
  });
  test("K2: a device that no kernel is for", () => {
    expect(refusal(() => make({ device: "cpu" }, { kernels: gpuLock }))).toMatchObject({ row: "K2" });
    const withGpu = { machine: { ...machine, cuda: gpu } };
    expect(refusal(() => make({ device: "cuda" }, withGpu))).toMatchObject({ code: "KL_PLAN_UNAVAILABLE", row: "K2" });
  });
  test("K3: a mode that no kernel has is refused, not replaced", () => {
    expect(refusal(() => make({ mode: "bf16" }))).toMatchObject({ code: "KL_PLAN_UNAVAILABLE", row: "K3" });
  });
  test("a GPU plan has mode bf16 and says which device", () => {
    const ops = (one: (typeof five)[number]) =>
      one.descriptor.ops.map(({ name, layouts, features }) =>
        op(name, { ...(layouts ? { layouts } : {}), features, mode: "bf16", path: "cuda" }),
      );
    const kernels = five.map((one) => kernel(one.name.slice(9), ops(one), cuda));
    const made = make({ device: "cuda:0" }, { kernels, machine: { ...machine, cuda: gpu } });
    expect(made).toMatchObject({ device: "cuda:0", mode: "bf16" });
    expect(make({}, { kernels, machine: { ...machine, cuda: gpu } }).device).toBe("cuda:0");
  });
});

describe("refusals say what every candidate answered", () => {
  const without = (name: string) => five.filter((one) => one.name !== `kernlock/${name}`);

  test("A4: attention without sinks is never taken", () => {
    const bare = kernel("fa3", [op("attn_prefill", { features: ["sliding_window", "paged", "varlen"] })]);
    const error = refusal(() => make({}, { kernels: [...without("fa3-sinks"), bare] }));
    expect(error).toMatchObject({ code: "KL_PLAN_UNAVAILABLE", row: "A4" });
  });
  test("a node that nothing runs", () => {
    const error = refusal(() => make({}, { kernels: without("liger-rmsnorm") }));
    expect(error.message).toBe('No locked kernel has an op for "norm".');
  });
  test("limits", () => {
    const narrow = kernel("liger-rmsnorm", [op("rmsnorm", { limits: { hidden: { multipleOf: 512 } } })]);
    const error = refusal(() => make({}, { kernels: [...without("liger-rmsnorm"), narrow] }));
    expect(error.message).toContain("takes multiples of 512 as hidden, here it is 256");
  });
  test("a CPU without the instructions, a C library too old, another ABI", () => {
    const old = (facts: Partial<typeof machine>) =>
      refusal(() => make({}, { machine: { ...machine, ...facts } })).message;
    expect(old({ cpu: { ...machine.cpu, level: "x86-64-v2" } })).toContain("needs a CPU of level x86-64-v3");
    expect(old({ libc: { family: "glibc", version: "2.9" } })).toContain("needs glibc 2.17");
    const foreign = { ...norm, descriptor: { ...norm.descriptor, abi_build: `sha256:${"0".repeat(64)}` as const } };
    const error = refusal(() => make({}, { kernels: [...without("liger-rmsnorm"), foreign] }));
    expect(error.message).toContain("built against another ABI");
  });
  test("a pinned kernel that cannot do it is an error, never a substitution", () => {
    expect(refusal(() => make({ pins: pin("attn=transformer-core") }))).toMatchObject({ code: "KL_PLAN_UNAVAILABLE" });
    expect(refusal(() => make({ pins: pin("moe=mxfp4/cuda") }))).toMatchObject({ code: "KL_PLAN_UNAVAILABLE" });
  });
  test("an op that loading needs", () => {
    const noCopy = kernel(
      "transformer-core",
      core.descriptor.ops.filter((one) => one.name !== "copy_rows"),
      cpu,
    );
    const error = refusal(() => make({}, { kernels: [noCopy, ...without("transformer-core")] }));
    expect(error.details).toEqual({ op: "copy_rows" });
  });
});

describe("memory", () => {
  test("is counted before a weight is read, and refused with the numbers", () => {
    const made = make({ maxContext: 1000, maxSequences: 4, maxBatchTokens: 128 });
    // Full: 16 pages for 1,000 tokens. Sliding: 15 + 128 keys lie in at most 4 pages.
    expect(made.pages).toEqual({ full: 4 * 16, sliding: 4 * 4 });
    expect(made.memory.kv).toBe((2 * 64 + 2 * 16) * (2 * 2 * 64 * 64 * 4));
    expect(made.memory.weights).toBe(model.bytes.other + model.bytes.experts);
    expect(made.memory.total).toBe(made.memory.weights + made.memory.kv + made.memory.workspace);
    const small = { machine: { ...machine, memory: { total: 16e9, available: made.memory.total - 1 } } };
    const asked = { maxContext: 1000, maxSequences: 4, maxBatchTokens: 128 };
    const error = refusal(() => make(asked, small));
    expect(error.code).toBe("KL_PLAN_MEMORY");
    expect(error.details).toMatchObject({ total: made.memory.total, available: made.memory.total - 1 });
  });

  test("workspace rules are followed, the largest of each kind", () => {
    const big = { scratch: [{ bytes: 4, dims: ["tokens" as const, "hidden" as const] }], state: [] };
    const hungry = kernel("mxfp4", [op("moe_residual", { layouts: ["mxfp4.rows"], workspace: big })]);
    const made = make({ maxBatchTokens: 100 }, { kernels: [core, norm, fa3, hungry] });
    expect(made.workspace).toEqual({ scratch: 4 * 128 * 256, state: 0 });
  });

  test("limits that make no sense are refused", () => {
    for (const asked of [{ maxContext: 0 }, { maxContext: 131073 }, { maxSequences: 1.5 }, { workers: 0 }]) {
      expect(refusal(() => make(asked)).code).toBe("KL_PLAN_LIMIT");
    }
  });
});

test("--kernel is taken apart by what is locked", () => {
  expect(parsePin("moe=mxfp4", names)).toEqual({
    nodes: ["moe_up", "moe_down"],
    kernel: "kernlock/mxfp4",
    path: null,
    text: "moe=mxfp4",
  });
  expect(parsePin("moe=kernlock/mxfp4/triton", names)).toMatchObject({ kernel: "kernlock/mxfp4", path: "triton" });
  expect(parsePin("attn=fa3-sinks/cpp", names)).toMatchObject({ nodes: ["attn"], path: "cpp" });
  for (const text of ["moe", "moe=", "mlp=mxfp4", "moe=nothing", "=mxfp4", "moe=a/b/c/d", "moe=../x"]) {
    expect(refusal(() => parsePin(text, names)).code).toBe("KL_PLAN_PIN");
  }
  expect(refusal(() => parsePin("moe=mxfp4", [...names, "other/mxfp4"])).message).toContain("more than one");
});

test("the signer of each op is in the plan", () => {
  expect(make().ops.every((one) => one.signer === mxfp4.signers[0])).toBe(true);
});
