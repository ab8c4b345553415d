import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestHex, KernlockError } from "../../format/index.ts";
import { inspectCubin, readDeviceImage } from "../../inspect/index.ts";
import { OciLayout } from "../../oci/index.ts";
import { isProvisioned, provision, readToolchainLock } from "../../toolchain/index.ts";
import { type BuildResult, buildPackage } from "../index.ts";
import { revision, Workshop } from "./workshop.ts";

const kernels = join(import.meta.dirname, "..", "..");
const builderId = "https://builder.example/ci";
const has = (await isProvisioned("nvcc")) && (await isProvisioned("triton")) && (await isProvisioned("liger-kernel"));

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return "accepted";
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return error.code;
  }
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kernlock-cuda-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Its variant for a GPU with PTX in place of machine code. */
const ofPtxAlone = (w: Workshop): Workshop =>
  w.edit((k) => {
    const { each: _, ...rest } = k.variants[0];
    const backend = { ...rest.backend, architectures: [], ptx: ["sm_90"] };
    k.variants = [{ ...rest, backend, variant: "linux-x86_64-cuda-ptx90", tested: false }];
  });

/** The tiny package with a variant for a GPU besides its own. */
function withCuda(device: string, architecture = "sm_80"): Workshop {
  const w = new Workshop();
  mkdirSync(join(w.packageFolder, "cuda"));
  w.write("cuda/tiny.cu", device);
  w.write(
    "cuda/host.cc",
    `__asm__(".section .rodata\\n.incbin \\"tiny.cubin\\"\\n.previous\\n");\n${readFileSync(join(w.packageFolder, "cpu/tiny.cc"), "utf8")}`.replaceAll(
      '"tiny.h"',
      '"cpu/tiny.h"',
    ),
  );
  return w.edit((k) => {
    const [{ platform, ops, compile }] = k.variants;
    const { sources, ...step } = compile[0];
    const device = { source: "cuda/tiny.cu", image: "tiny.cubin" };
    k.variants = [
      {
        each: [{ architecture, tested: false }],
        platform,
        backend: { kind: "cuda", driver: "13.0" },
        compile: [{ ...step, language: "cuda", sources: ["cuda/host.cc", ...sources.slice(1)], device }],
        ops,
      },
    ];
  });
}
const kernel = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n';

describe.skipIf(!has)("with the CUDA toolchain (node kernels/toolchain/provision.ts)", () => {
  let nvcc: string;
  beforeAll(async () => {
    nvcc = join((await provision("nvcc")).folder, "nvidia", "cu13", "bin", "nvcc");
    writeFileSync(join(folder, "k.cu"), kernel);
  });
  const compile = (...args: string[]): Buffer => {
    execFileSync(nvcc, ["-o", "k.out", ...args, "k.cu"], { cwd: folder });
    return readFileSync(join(folder, "k.out"));
  };

  test.each(["80", "90", "90a", "100f", "120a"])("a real cubin for %s is read", (architecture) => {
    const bytes = compile("-cubin", `-arch=sm_${architecture}`);
    const facts = inspectCubin(bytes);
    expect(facts).toMatchObject({ architecture: `sm_${architecture}`, size: bytes.length });
    expect(facts.kernels).toMatchObject([{ name: "twice", sharedBytes: 0, params: [{ offset: 0, size: 8 }] }]);
    expect(facts.kernels[0]!.registers).toBeGreaterThan(3);
  });

  test("a real fatbin is read, packed and with PTX", () => {
    const targets = ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90a,code=sm_90a"];
    for (const mode of ["none", "default", "size"]) {
      const ptx = "-gencode=arch=compute_90,code=compute_90";
      const code = readDeviceImage(compile("-fatbin", `--compress-mode=${mode}`, ...targets, ptx));
      expect(code.cubins.map((c) => c.architecture)).toEqual(["sm_80", "sm_90a"]);
      expect(code.ptx).toEqual([{ target: "sm_90", version: "9.0" }]);
    }
  });

  test("mutated real cubins and fatbins give coded errors or facts, never anything else", () => {
    const samples = [compile("-cubin", "-arch=sm_90a"), compile("-fatbin", "-arch=sm_80")];
    let seed = 3;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let round = 0; round < 4000; round++) {
      const bytes = Buffer.from(samples[round % 2]!);
      for (let n = 1 + random(3); n > 0; n--) bytes[random(bytes.length)] = [0, 0xff, random(256)][random(3)]!;
      try {
        readDeviceImage(round % 5 === 0 ? bytes.subarray(0, random(bytes.length)) : bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(KernlockError);
        expect((error as KernlockError).code).toMatch(/^KL_(CUBIN|FATBIN)_/);
      }
    }
  });

  test("device code whose names depend on the folder is refused", async () => {
    using w = withCuda(`namespace { __device__ int hidden; }\n${kernel.replace("*= 2", "+= hidden++")}`);
    expect(await codeOf(w.build())).toBe("KL_BUILD_COMPILE");
    ofPtxAlone(w);
    expect(await codeOf(w.build())).toBe("KL_BUILD_COMPILE");
  });

  test("a variant of PTX alone is built, and holds the PTX that it declares", async () => {
    using w = ofPtxAlone(withCuda(kernel));
    const { variants } = await w.build();
    const { facts } = variants[0]!;
    expect(facts.backend).toMatchObject({ architectures: [], ptx: ["sm_90"] });
  });

  test("device code that does not compile is told in the compiler's words", async () => {
    using w = withCuda("__global__ void broken() { nothing(); }\n");
    await expect(w.build()).rejects.toThrow(/nothing/);
  });

  test("a library of a CUDA variant without device code is refused", async () => {
    using w = withCuda(kernel);
    w.replace("cuda/host.cc", ".incbin", ".ascii");
    expect(await codeOf(w.build())).toBe("KL_IMAGE_MISSING");
  });

  describe("liger-rmsnorm", () => {
    const variants = ["linux-x86_64-cuda-sm80", "linux-x86_64-cuda-sm90a"];
    let first: BuildResult;
    let layout: OciLayout;
    const build = (packageFolder: string, name: string) =>
      buildPackage({ packageFolder, out: join(folder, name), builderId, revision, variants });
    beforeAll(async () => {
      first = await build(join(kernels, "liger-rmsnorm"), "first");
      layout = await OciLayout.open(join(folder, "first"));
    });

    test("the same inputs give the same bytes, from another folder too", async () => {
      const copy = join(folder, "elsewhere", "copy");
      cpSync(join(kernels, "liger-rmsnorm"), copy, { recursive: true });
      cpSync(join(kernels, "..", "LICENSE"), join(copy, "LICENSE"));
      const again = await build(copy, "again");
      expect(again.index).toBe(first.index);
      expect(again.statements.map((s) => s.bytes)).toEqual(first.statements.map((s) => s.bytes));
    });

    test.each(variants)(
      "%s holds upstream's kernel as a device image, with its licence and launch data",
      async (key) => {
        const { facts } = first.variants.find((v) => v.variant === key)!;
        expect(facts.files.map((f) => [f.path, f.kind])).toEqual([
          ["LICENSE", "license"],
          ["README.md", "card"],
          ["liger-rmsnorm-bf16.cubin", "device-image"],
          ["liger-rmsnorm-f32.cubin", "device-image"],
          ["liger-rmsnorm.so", "shared-object"],
          ["sbom.cdx.json", "sbom"],
          ["upstream/liger-kernel/LICENSE", "license"],
          ["upstream/liger-kernel/NOTICE", "license"],
        ]);
        const op = facts.ops.find((o) => o.path === "triton")!;
        const step = op.launch!.steps[0]!;
        expect(step).toMatchObject({ entry: "_rms_norm_forward_kernel", block: [256, 1, 1] });
        expect(step.params.slice(-2)).toEqual([{ kind: "null" }, { kind: "null" }]);
        const image = await layout.getBlob(facts.files.find((f) => f.path === step.file)!.digest);
        expect(inspectCubin(image).kernels[0]?.params).toHaveLength(step.params.length);
      },
    );

    test("the provenance names compilers, flags and upstream's wheel by digest", () => {
      const { predicate } = JSON.parse(Buffer.from(first.statements.at(-1)!.bytes).toString());
      const found = new Map<string, { uri?: string; digest: { sha256: string } }>();
      for (const d of predicate.buildDefinition.resolvedDependencies) found.set(d.name ?? "source", d);
      const { sets } = readToolchainLock();
      for (const wheel of [...sets.nvcc.wheels, ...sets.triton.wheels]) {
        expect(found.get(`tool/${wheel.name}`)).toMatchObject({
          uri: `pkg:pypi/${wheel.name}@${wheel.version}`,
          digest: { sha256: digestHex(wheel.digest) },
        });
      }
      const [liger] = sets["liger-kernel"].wheels;
      expect(found.get("upstream/liger-kernel")?.digest.sha256).toBe(digestHex(liger!.digest));
      expect(found.get("src/cuda/rmsnorm.cu")).toBeDefined();
      const outputs = predicate.buildDefinition.internalParameters.outputs;
      expect(outputs[0].device).toContain("-gencode=arch=compute_90a,code=sm_90a");
      expect(outputs[1].triton).toContain("casting_mode=1");
      expect(JSON.stringify(predicate)).not.toContain(tmpdir());
    });
  });
});

describe("without the CUDA toolchain", () => {
  test("a CUDA variant needs pip, and is refused with a code where there is none", async () => {
    using w = withCuda(kernel);
    const saved = { ...process.env };
    const empty = join(folder, "empty");
    mkdirSync(empty, { recursive: true });
    Object.assign(process.env, { KERNLOCK_TOOLCHAIN: empty, PIP_NO_INDEX: "1", PIP_FIND_LINKS: empty });
    try {
      expect(await codeOf(w.build())).toBe("KL_BUILD_TOOLCHAIN");
    } finally {
      for (const name of ["KERNLOCK_TOOLCHAIN", "PIP_NO_INDEX", "PIP_FIND_LINKS"]) delete process.env[name];
      Object.assign(process.env, saved);
    }
  });

  test.each<[string, string, (step: Record<string, unknown>) => void]>([
    [
      "a device flag that names a file",
      "KL_BUILD_FLAG",
      (s) => Object.assign(s.device as object, { flags: ["-include=x"] }),
    ],
    [
      "a device flag for another target",
      "KL_BUILD_FLAG",
      (s) => Object.assign(s.device as object, { flags: ["-arch=sm_90"] }),
    ],
    [
      "a source of another kind",
      "KL_BUILD_SOURCE",
      (s) => Object.assign(s.device as object, { source: "cuda/tiny.cc" }),
    ],
    ["an unknown language", "KL_BUILD_SOURCE", (s) => Object.assign(s, { language: "hip" })],
  ])("kernel.json with %s is refused", async (_what, code, edit) => {
    using w = withCuda(kernel).edit((k) => edit(k.variants[0].compile[0]));
    expect(await codeOf(w.build())).toBe(code);
  });

  test.each<[string, (op: Record<string, unknown> & { launch: { steps: Record<string, unknown>[] } }) => void]>([
    ["launch data that are missing", (op) => Reflect.deleteProperty(op, "launch")],
    ["a file that nothing compiles", (op) => Object.assign(op.launch.steps[0]!, { file: "other.cubin" })],
    [
      "a parameter that the kernel does not take",
      (op) => Object.assign(op.launch.steps[0]!.params as object, { more: { kind: "null" } }),
    ],
    ["a parameter left out", (op) => Reflect.deleteProperty(op.launch.steps[0]!.params as object, "eps")],
  ])("launch data with %s are refused", async (_what, edit) => {
    using w = new Workshop();
    const liger = JSON.parse(readFileSync(join(kernels, "liger-rmsnorm", "kernel.json"), "utf8"));
    edit(liger.variants[1].ops[1]);
    w.edit((k) => {
      k.variants = liger.variants.slice(1);
    });
    expect(await codeOf(w.build())).toBe("KL_BUILD_SOURCE");
  });
});
