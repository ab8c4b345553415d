import { describe, expect, test } from "vitest";
import { KernlockError, type LaunchStep, type Variant } from "../../format/index.ts";
import { checkDeviceCode, findDeviceCode, inspectElf } from "../index.ts";
import { harmless, library } from "./craft.ts";
import { addKernel, craftCubin, craftFatbin, record, sm80 } from "./craft-cubin.ts";

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return error.code;
  }
};

/** A shared object that carries some bytes as constants. */
const carrying = (bytes: Buffer): Buffer =>
  library(`${harmless}
extern "C" __attribute__((used, aligned(64))) const unsigned char image[] = {${[...bytes].join(",")}};
const void* volatile keep = image;`);

const cuda = (architectures: string[], ptx: string[] = []): Variant["backend"] => ({
  kind: "cuda",
  architectures,
  ptx,
  driver: "13.0",
});
const cpu: Variant["backend"] = { kind: "cpu", level: "x86-64-v3" };
const ptx = Buffer.from("//\n.version 9.0\n.target sm_90a\n.address_size 64\n\0");

describe("a library's device code", () => {
  const so = { path: "a.so", kind: "shared-object" } as const;
  const check = (bytes: Buffer, backend: Variant["backend"]) =>
    codeOf(() => checkDeviceCode(carrying(bytes), so, { backend, ops: [] }));
  test("is found where it stands, whatever its form", () => {
    const both = craftFatbin([
      { payload: craftCubin() },
      { payload: craftCubin(sm80), architecture: 80, flags: 0x11n },
    ]);
    const bytes = carrying(Buffer.concat([craftCubin(), Buffer.alloc(24), both, Buffer.alloc(8), ptx]));
    const code = findDeviceCode(bytes, inspectElf(bytes).segments);
    expect(code.cubins.map((c) => c.architecture).sort()).toEqual(["sm_80", "sm_90a", "sm_90a"]);
    expect(code.ptx.map(({ target }) => target)).toEqual(["sm_90a"]);
  });
  test("has to be what the variant declares, all of it and nothing more", () => {
    expect(check(craftCubin(), cuda(["sm_90a"]))).toBe("accepted");
    expect(check(craftCubin(), cuda(["sm_80"]))).toBe("KL_IMAGE_ARCHITECTURE");
    expect(check(craftCubin(), cuda(["sm_80", "sm_90a"]))).toBe("KL_IMAGE_ARCHITECTURE");
    expect(check(Buffer.concat([craftCubin(), craftCubin(sm80)]), cuda(["sm_90a"]))).toBe("KL_IMAGE_ARCHITECTURE");
    expect(check(craftCubin(), cuda(["sm_90a"], ["sm_90a"]))).toBe("KL_IMAGE_PTX");
    expect(check(Buffer.concat([craftCubin(), ptx]), cuda(["sm_90a"]))).toBe("KL_IMAGE_PTX");
    expect(check(Buffer.concat([craftCubin(), ptx]), cuda(["sm_90a"], ["sm_90a"]))).toBe("accepted");
    expect(check(Buffer.from("nothing"), cuda(["sm_90a"]))).toBe("KL_IMAGE_MISSING");
    expect(check(craftCubin({ flags: 0x6005a44 }), cuda(["sm_90a"]))).toBe("KL_CUBIN_FLAGS");
  });
  test("may be PTX alone, of exactly the targets that the variant declares", () => {
    const text = (target: string, version = "9.0") => Buffer.from(`//\n.version ${version}\n.target ${target}\n\0`);
    const alone = craftFatbin([{ kind: 1, payload: text("sm_90"), flags: 0x8011n, zstd: true }]);
    const marked = craftFatbin([{ kind: 1, payload: text("sm_90a") }]);
    expect(check(alone, cuda([], ["sm_90"]))).toBe("accepted");
    expect(check(marked, cuda([], ["sm_90a"]))).toBe("accepted");
    expect(check(alone, cuda([], ["sm_80"]))).toBe("KL_IMAGE_PTX");
    expect(check(alone, cuda([], ["sm_90a"]))).toBe("KL_IMAGE_PTX");
    expect(check(marked, cuda([], ["sm_90"]))).toBe("KL_IMAGE_PTX");
    expect(check(alone, cuda([], ["sm_90", "sm_100"]))).toBe("KL_IMAGE_PTX");
    expect(check(Buffer.concat([alone, Buffer.alloc(8), marked]), cuda([], ["sm_90"]))).toBe("KL_IMAGE_PTX");
    expect(check(alone, cuda(["sm_90a"]))).toBe("KL_IMAGE_ARCHITECTURE");
    expect(check(Buffer.concat([alone, craftCubin()]), cuda([], ["sm_90"]))).toBe("KL_IMAGE_ARCHITECTURE");
  });
  test("of PTX asks for a driver that compiles that version of it", () => {
    const of = (version: string) => {
      const payload = Buffer.from(`.version ${version}\n.target sm_90\n\0`);
      const bytes = carrying(craftFatbin([{ kind: 1, payload, flags: 0x11n }]));
      return (driver: string) =>
        codeOf(() => checkDeviceCode(bytes, so, { backend: { ...cuda([], ["sm_90"]), driver } as never, ops: [] }));
    };
    const drivers = ["11.8", "12.5", "12.7", "12.8", "13.0", "13.2", "14.0"];
    const accepts = (version: string) => {
      const check = of(version);
      return drivers.find((driver) => check(driver) === "accepted");
    };
    expect(["7.8", "8.5", "8.6", "8.7", "9.0", "9.1", "14.0"].map(accepts)).toEqual([
      ...["11.8", "12.5", "12.7", "12.8", "13.0", "13.2"],
      undefined,
    ]);
    expect(of("9.1")("13.0")).toBe("KL_IMAGE_PTX");
  });
  test("has no place in a CPU variant", () => {
    expect(check(Buffer.from("nothing"), cpu)).toBe("accepted");
    expect(check(craftCubin(), cpu)).toBe("KL_IMAGE_UNEXPECTED");
    expect(check(ptx, cpu)).toBe("KL_IMAGE_UNEXPECTED");
  });
});

describe("a device image", () => {
  const step: LaunchStep = {
    file: "a.cubin",
    entry: "add",
    grid: [[{ dims: ["tokens"] }], [], []],
    block: [128, 1, 1],
    shared_bytes: 0,
    params: [
      { kind: "argument", name: "x" },
      { kind: "argument", name: "hidden" },
    ],
  };
  const check = (bytes: Buffer, change: Partial<LaunchStep> = {}, backend = cuda(["sm_90a"])) =>
    codeOf(() =>
      checkDeviceCode(
        bytes,
        { path: "a.cubin", kind: "device-image" },
        {
          backend,
          ops: [
            {
              name: "rmsnorm",
              path: "triton",
              covers: ["norm"],
              mode: "bf16",
              file: "a.cubin",
              dtypes: { activation: ["bf16"], stream: ["f32"] },
              limits: {},
              features: [],
              workspace: { scratch: [], state: [] },
              launch: { absent_rows: "untouched", steps: [{ ...step, ...change }] },
            },
          ],
        },
      ),
    );
  test("has the kernels that are launched, with these parameters, threads and memory", () => {
    expect(check(craftCubin())).toBe("accepted");
    expect(check(craftFatbin([{ payload: craftCubin() }]))).toBe("accepted");
    expect(check(craftCubin(sm80))).toBe("KL_IMAGE_ARCHITECTURE");
    expect(check(craftCubin(), { entry: "mul" })).toBe("KL_IMAGE_ENTRY");
    expect(check(craftCubin(), { params: step.params.slice(0, 1) })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin(), { params: step.params.toReversed() })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin(), { params: [...step.params, { kind: "null" }] })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin(), { block: [256, 1, 1] })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin(), { block: [64, 2, 1] })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin(), { shared_bytes: 227 * 1024 })).toBe("KL_IMAGE_LAUNCH");
    const free = { ...addKernel, info: Buffer.concat([addKernel.info!.subarray(0, 32), record(0x05, 256, 1, 1)]) };
    expect(check(craftCubin({ kernels: [free] }), { block: [256, 1, 1] })).toBe("accepted");
    expect(check(craftCubin({ kernels: [free] }), { block: [512, 1, 1] })).toBe("KL_IMAGE_LAUNCH");
    expect(check(craftCubin({ kernels: [{ ...free, registers: 255, info: free.info }] }), { block: [256, 1, 1] })).toBe(
      "accepted",
    );
    expect(check(Buffer.from("\x7fELF"))).toBe("KL_CUBIN_MAGIC");
    // Nothing says what a compiler will make of it.
    const text = craftFatbin([{ kind: 1, payload: ptx }]);
    expect(check(text, {}, cuda([], ["sm_90a"]))).toBe("KL_IMAGE_PTX");
    expect(
      check(craftFatbin([{ payload: craftCubin() }, { kind: 1, payload: ptx }]), {}, cuda(["sm_90a"], ["sm_90a"])),
    ).toBe("KL_IMAGE_PTX");
  });
});
