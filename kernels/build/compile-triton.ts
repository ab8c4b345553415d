import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { type Backend, checkShape, fail, parseStrictJson } from "../format/index.ts";
import { findPython, type ProvisionOptions, provision, readToolchainLock } from "../toolchain/index.ts";
import { type CompileOptions, callCompiler } from "./call.ts";
import type { Compiled } from "./compile.ts";
import { fixedAddresses } from "./cuda.ts";
import type { TritonStep } from "./source.ts";
import type { Stage } from "./stage.ts";
import { digestFile } from "./toolchain.ts";

/** What the compiled kernel asks of a launch. */
export interface CompiledKernel {
  readonly entry: string;
  /** Threads of a block, along x. */
  readonly threads: number;
  /** Dynamic shared memory, bytes. */
  readonly sharedBytes: number;
  /** Names of the parameters that are passed, in order; two null pointers follow them. */
  readonly params: readonly string[];
}

const answer = z.strictObject({
  entry: z.string(),
  threads: z.number().int(),
  shared: z.number().int(),
  clusters: z.literal(1),
  globalScratch: z.literal(0),
  profileScratch: z.literal(0),
  pdl: z.literal(false),
  cooperative: z.literal(false),
  triton: z.string(),
});

/** Compiles one Triton kernel ahead of time to a cubin. Throws `KL_BUILD_COMPILE`, `KL_BUILD_TIMEOUT`, `KL_BUILD_TOOLCHAIN`. */
export async function compileTriton(
  stage: Stage,
  step: TritonStep,
  backend: Backend,
  options: CompileOptions & ProvisionOptions,
): Promise<Compiled & { readonly kernel: CompiledKernel }> {
  const architecture = backend.kind === "cuda" ? backend.architectures[0] : undefined;
  const target = Number(/^sm_([0-9]+)a?$/.exec(architecture ?? "")?.[1]);
  if (backend.kind !== "cuda" || backend.architectures.length !== 1 || backend.ptx.length > 0 || !(target >= 80))
    return fail("KL_BUILD_SOURCE", `${step.output}: Triton compiles for one architecture and without PTX.`);
  const triton = await provision("triton", options);
  const python = await findPython(readToolchainLock().python);
  const { command, tool } = await fixedAddresses();
  const upstream = "wheel" in step.from ? await provision(step.from.wheel, options) : undefined;
  const output = `out/${step.output}`;
  const place =
    "file" in step.from
      ? { sources: [dirname(`src/${step.from.file}`)], packages: [], module: basename(step.from.file, ".py") }
      : { sources: [upstream!.folder], packages: parents(step.from.module), module: step.from.module };
  const job = {
    ...place,
    sources: [...place.sources.map((s) => (s.startsWith("/") ? s : join(stage.folder, s))), triton.folder],
    function: step.function,
    target,
    params: step.params.map((p) => ("type" in p ? { name: p.name, type: p.type } : p)),
    aligned: step.params.flatMap((p) => ("type" in p && p.aligned ? [p.name] : [])),
    warps: step.warps,
    stages: step.stages,
    out: output,
  };
  const cache = join(stage.folder, "tmp", `triton-${step.output}-${target}`);
  const script = join(import.meta.dirname, "triton-compile.py");
  const printed = await callCompiler(
    stage,
    command[0],
    [...command.slice(1), python, "-I", "-B", "-S", script],
    step.output,
    {
      ...options,
      env: { HOME: cache, TRITON_CACHE_DIR: cache, TRITON_DISABLE_LINE_INFO: "1", TRITON_DEFAULT_FP_FUSION: "1" },
      input: JSON.stringify(job),
      remedy: "Mend the kernel, or what kernel.json says of its parameters.",
    },
  );
  const what = `What Triton tells of ${step.output}`;
  const told = checkShape(answer, parseStrictJson(printed, { what }), "KL_BUILD_COMPILE", what);
  const constants = step.params.flatMap((p) => ("constexpr" in p ? [`${p.name}=${p.constexpr}`] : []));
  const aligned = job.aligned.map((name) => `aligned=${name}`);
  return {
    output: step.output,
    kind: "device-image",
    bytes: await readFile(join(stage.folder, output)),
    flags: {
      triton: [`target=cuda:${target}`, `warps=${step.warps}`, `stages=${step.stages}`, ...constants, ...aligned],
    },
    used: "file" in step.from ? [`src/${step.from.file}`] : [],
    system: new Map(),
    wheels: upstream === undefined ? [triton] : [triton, upstream],
    tools: [tool, { name: basename(python), digest: await digestFile(python) }],
    kernel: {
      entry: told.entry,
      threads: told.threads,
      sharedBytes: told.shared,
      params: step.params.flatMap((p) => ("type" in p ? [p.name] : [])),
    },
  };
}

/** `a.b.c` lies in the packages a and a.b. */
function parents(module: string): string[] {
  const names = module.split(".").slice(0, -1);
  return names.map((_, i) => names.slice(0, i + 1).join("."));
}
