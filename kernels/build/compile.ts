import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type Backend, type Digest, digestOf, fail } from "../format/index.ts";
import { inspectCubin, inspectFatbin } from "../inspect/index.ts";
import type { ProvisionedSet } from "../toolchain/index.ts";
import { type CompileOptions, callCompiler, filesRead } from "./call.ts";
import { cudaCompiler, fixedAddresses } from "./cuda.ts";
import type { CudaStep, LibraryStep } from "./source.ts";
import type { Stage } from "./stage.ts";
import type { Tool, Toolchain } from "./toolchain.ts";

export interface Compiled {
  readonly output: string;
  readonly kind: "shared-object" | "device-image";
  readonly bytes: Uint8Array;
  /** What was asked of each tool. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Staged files that were read, by relative name. */
  readonly used: readonly string[];
  /** Files of the system that were read: headers and libraries, by path. */
  readonly system: ReadonlyMap<string, Digest>;
  /** Wheels that compiled, or that sources come from. */
  readonly wheels: readonly ProvisionedSet[];
  /** Programs besides those of the host compiler. */
  readonly tools: readonly Tool[];
}

const compileFlags = [
  "-std=c++20",
  "-O3",
  "-fPIC",
  "-fvisibility=hidden",
  "-fvisibility-inlines-hidden",
  "-fno-exceptions",
  "-fno-rtti",
  "-fno-asynchronous-unwind-tables",
  "-fno-threadsafe-statics",
  "-ffp-contract=fast",
  "-Wall",
  "-Wextra",
];
const linkFlags = [
  "-shared",
  // No start files and no C++ runtime: nothing runs on load.
  "-nostartfiles",
  "-nodefaultlibs",
  "-Wl,--build-id=none,--hash-style=gnu,--as-needed,-z,relro,-z,now,-z,noexecstack,-z,defs,-Bsymbolic",
  "-s",
];
const libraries = ["-lm", "-lc", "-lgcc"];
/** No line information: it would hold the folder and the time of the build. */
const deviceFlags = ["-std=c++20", "-O3"];

/** Compiles and links one shared object, its device image first. Throws `KL_BUILD_COMPILE`, `KL_BUILD_TIMEOUT`. */
export async function compile(
  stage: Stage,
  toolchain: Toolchain,
  step: LibraryStep,
  backend: Backend,
  options: CompileOptions & { readonly onProgress?: ((line: string) => void) | undefined },
): Promise<Compiled> {
  const device = step.language === "cuda" ? await compileDevice(stage, step, backend, options) : undefined;
  // The host side of a GPU variant only launches: it asks little of the CPU.
  const level = backend.kind === "cpu" ? backend.level : "x86-64-v2";
  const flags = [...compileFlags, `-march=${level}`, ...step.flags];
  const objects = step.sources.map((_, i) => `obj/${step.output}.${i}.o`);
  await inParallel(step.sources, async (source, i) => {
    const object = objects[i]!;
    const where = ["-Iinclude", "-Isrc", `-ffile-prefix-map=${stage.folder}=.`, `-frandom-seed=${source}`];
    // Where the assembler finds the image.
    if (device !== undefined) where.push("-Wa,-I,img");
    const args = [...flags, ...where, "-MD", "-MF", `${object}.d`, "-c", `src/${source}`, "-o", object];
    await callCompiler(stage, toolchain.compiler, args, source, options);
  });
  const output = `out/${step.output}`;
  const depfile = `obj/${step.output}.d`;
  const linkArgs = [...linkFlags, `-Wl,--dependency-file=${depfile}`, "-o", output, ...objects, ...libraries];
  await callCompiler(stage, toolchain.compiler, linkArgs, step.output, options);
  const read = await filesRead(stage, [...objects.map((o) => `${o}.d`), depfile]);
  return {
    output: step.output,
    kind: "shared-object",
    bytes: await readFile(join(stage.folder, output)),
    flags: { ...device?.flags, compile: flags, link: [...linkFlags, ...libraries] },
    used: [...new Set([...read.used, ...(device?.used ?? [])])].sort(),
    system: new Map([...(device?.system ?? []), ...read.system]),
    wheels: device?.wheels ?? [],
    tools: device?.tools ?? [],
  };
}

/** One .cu to `img/<image>`: a cubin, or a fatbin where there are several architectures or PTX. */
async function compileDevice(
  stage: Stage,
  { device }: CudaStep,
  backend: Backend,
  options: CompileOptions & { readonly onProgress?: ((line: string) => void) | undefined },
): Promise<Pick<Compiled, "flags" | "used" | "system" | "wheels" | "tools">> {
  if (backend.kind !== "cuda") return fail("KL_BUILD_SOURCE", `${device.image} is for GPUs, and its variant is not.`);
  const { nvcc, set } = await cudaCompiler(options);
  const { command, tool } = await fixedAddresses();
  const number = (architecture: string) => architecture.slice("sm_".length);
  const targets = [
    ...backend.architectures.map((a) => `-gencode=arch=compute_${number(a)},code=sm_${number(a)}`),
    ...backend.ptx.map((a) => `-gencode=arch=compute_${number(a)},code=compute_${number(a)}`),
  ];
  const form = targets.length === 1 && backend.ptx.length === 0 ? "-cubin" : "-fatbin";
  const flags = [...deviceFlags, ...targets, form, ...device.flags];
  const depfile = `obj/${device.image}.d`;
  const args = [...command.slice(1), nvcc, ...flags, "-Iinclude", "-Isrc", "-MD", "-MF", depfile];
  await callCompiler(stage, command[0], [...args, "-o", `img/${device.image}`, `src/${device.source}`], device.source, {
    ...options,
    remedy: "Mend the source, or leave out the architecture that it is not for.",
  });
  const image = await readFile(join(stage.folder, "img", device.image));
  checkNames(device.source, image, form);
  const read = await filesRead(stage, [depfile], [set.folder]);
  return { flags: { device: flags }, ...read, wheels: [set], tools: [tool] };
}

/** Names that hold a hash of the source's folder would give every build other bytes. */
function checkNames(source: string, image: Uint8Array, form: string): void {
  const parts =
    form === "-cubin"
      ? [inspectCubin(image)]
      : inspectFatbin(image).entries.map((e) => (e.kind === "elf" ? e.cubin : e));
  const name = parts.flatMap((c) => c.placeNames)[0];
  if (name !== undefined) {
    fail("KL_BUILD_COMPILE", `${source} has device code in an unnamed namespace, whose names depend on the folder.`, {
      remedy: "Give the namespace a name.",
      details: { symbol: name },
    });
  }
}

/** One digest for many files of the system: over the lines `<hex>  <path>`, sorted by path. */
export function systemDigest(files: ReadonlyMap<string, Digest>): Digest {
  const lines = [...files]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, digest]) => `${digest.slice(7)}  ${path}\n`);
  return digestOf(lines.join(""));
}

async function inParallel<T>(items: readonly T[], work: (item: T, i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) await work(items[i]!, i);
  };
  // Sources of one package compile side by side; all settle before an error is told, so that nothing still runs then.
  const results = await Promise.allSettled(
    Array.from({ length: Math.min(items.length, availableParallelism()) }, worker),
  );
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
