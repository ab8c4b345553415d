import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, normalize } from "node:path";
import { type Backend, type Digest, digestOf, fail } from "../format/index.ts";
import { runProgram } from "./process.ts";
import type { CompileStep } from "./source.ts";
import type { Stage } from "./stage.ts";
import { compilerEnvironment, digestFile, type Toolchain } from "./toolchain.ts";

export interface Compiled {
  readonly output: string;
  readonly bytes: Uint8Array;
  readonly flags: { readonly compile: readonly string[]; readonly link: readonly string[] };
  /** Staged files that were read, by relative name. */
  readonly used: readonly string[];
  /** Files of the system that were read: headers and libraries, by path. */
  readonly system: ReadonlyMap<string, Digest>;
}

export interface CompileOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
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

/** Compiles and links one shared object. Throws `KL_BUILD_COMPILE`, `KL_BUILD_TIMEOUT`. */
export async function compile(
  stage: Stage,
  toolchain: Toolchain,
  step: CompileStep,
  backend: Backend,
  options: CompileOptions,
): Promise<Compiled> {
  const level = backend.kind === "cpu" ? backend.level : "x86-64-v3";
  const flags = [...compileFlags, `-march=${level}`, ...step.flags];
  const objects = step.sources.map((_, i) => `obj/${step.output}.${i}.o`);
  await inParallel(step.sources, async (source, i) => {
    const object = objects[i]!;
    const where = ["-Iinclude", "-Isrc", `-ffile-prefix-map=${stage.folder}=.`, `-frandom-seed=${source}`];
    const args = [...flags, ...where, "-MD", "-MF", `${object}.d`, "-c", `src/${source}`, "-o", object];
    await call(stage, toolchain, args, source, options);
  });
  const output = `out/${step.output}`;
  const depfile = `obj/${step.output}.d`;
  const linkArgs = [...linkFlags, `-Wl,--dependency-file=${depfile}`, "-o", output, ...objects, ...libraries];
  await call(stage, toolchain, linkArgs, step.output, options);

  const used = new Set<string>();
  const system = new Map<string, Digest>();
  for (const file of [...objects.map((o) => `${o}.d`), depfile]) {
    for (const name of dependencies(await readFile(join(stage.folder, file), "utf8"))) {
      const path = normalize(name.startsWith(`${stage.folder}/`) ? name.slice(stage.folder.length + 1) : name);
      if (stage.inputs.has(path)) used.add(path);
      else if (path.startsWith("/")) system.set(path, await digestFile(path));
    }
  }
  return {
    output: step.output,
    bytes: await readFile(join(stage.folder, output)),
    flags: { compile: flags, link: [...linkFlags, ...libraries] },
    used: [...used].sort(),
    system,
  };
}

async function call(
  stage: Stage,
  toolchain: Toolchain,
  args: readonly string[],
  what: string,
  options: CompileOptions,
): Promise<void> {
  const run = await runProgram(toolchain.compiler, args, {
    cwd: stage.folder,
    env: compilerEnvironment(join(stage.folder, "tmp")),
    timeoutMs: options.timeoutMs,
    signal: options.signal,
  });
  if (run.timedOut) {
    fail("KL_BUILD_TIMEOUT", `Compiling ${what} took longer than ${options.timeoutMs} ms.`, {
      remedy: "Split the source, or give the build more time.",
    });
  }
  if (options.signal?.aborted === true) fail("KL_BUILD_STOPPED", `The build was stopped while ${what} was compiled.`);
  if (run.status !== 0) {
    const lines = run.stderr.replaceAll(`${stage.folder}/`, "").split("\n").slice(0, 12);
    fail("KL_BUILD_COMPILE", `${what} does not compile:\n${lines.join("\n").trim().slice(0, 2000)}`, {
      remedy: "Mend the source; kernels are linked without C++ runtime and see libc and libm only.",
      details: { stderr: run.stderr.slice(0, 16 << 10) },
    });
  }
}

/** Prerequisites named in make syntax. */
function dependencies(makefile: string): string[] {
  return makefile
    .replaceAll("\\\n", " ")
    .split("\n")
    .flatMap((rule) => rule.slice(rule.indexOf(": ") + 1 || rule.length).split(/(?<!\\)\s+/))
    .filter((name) => name !== "")
    .map((name) => name.replaceAll("\\ ", " "));
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
