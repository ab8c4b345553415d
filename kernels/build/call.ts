import { readFile } from "node:fs/promises";
import { join, normalize } from "node:path";
import { type Digest, fail } from "../format/index.ts";
import { runProgram } from "./process.ts";
import type { Stage } from "./stage.ts";
import { compilerEnvironment, digestFile } from "./toolchain.ts";

export interface CompileOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Runs a compiler in the stage. Throws `KL_BUILD_COMPILE`, `KL_BUILD_TIMEOUT`, `KL_BUILD_STOPPED`. Returns its output. */
export async function callCompiler(
  stage: Stage,
  program: string,
  args: readonly string[],
  what: string,
  options: CompileOptions & {
    readonly env?: Readonly<Record<string, string>>;
    readonly remedy?: string;
    input?: string;
  },
): Promise<string> {
  const run = await runProgram(program, args, {
    cwd: stage.folder,
    env: { ...compilerEnvironment(join(stage.folder, "tmp")), ...options.env },
    timeoutMs: options.timeoutMs,
    signal: options.signal,
    input: options.input,
  });
  if (run.timedOut) {
    fail("KL_BUILD_TIMEOUT", `Compiling ${what} took longer than ${options.timeoutMs} ms.`, {
      remedy: "Split the source, or give the build more time.",
    });
  }
  if (options.signal?.aborted === true) fail("KL_BUILD_STOPPED", `The build was stopped while ${what} was compiled.`);
  if (run.status !== 0) {
    const lines = run.stderr.replaceAll(`${stage.folder}/`, "").trim().split("\n");
    // Compilers tell the cause first, Python last.
    const told = program.endsWith("setarch") && run.stderr.includes("Traceback") ? lines.slice(-6) : lines.slice(0, 12);
    fail("KL_BUILD_COMPILE", `${what} does not compile:\n${told.join("\n").slice(0, 2000)}`, {
      remedy: options.remedy ?? "Mend the source; kernels are linked without C++ runtime and see libc and libm only.",
      details: { stderr: run.stderr.slice(0, 16 << 10) },
    });
  }
  return run.stdout;
}

/** What compilers read, as their dependency files tell: staged files by relative name, files of the system by path. */
export async function filesRead(
  stage: Stage,
  dependencyFiles: readonly string[],
  /** Folders whose files are pinned otherwise. */
  pinned: readonly string[] = [],
): Promise<{ used: string[]; system: Map<string, Digest> }> {
  const used = new Set<string>();
  const system = new Map<string, Digest>();
  for (const file of dependencyFiles) {
    for (const name of dependencies(await readFile(join(stage.folder, file), "utf8"))) {
      const path = normalize(name.startsWith(`${stage.folder}/`) ? name.slice(stage.folder.length + 1) : name);
      if (stage.inputs.has(path)) used.add(path);
      else if (path.startsWith("/") && !pinned.some((folder) => path.startsWith(`${folder}/`)))
        system.set(path, await digestFile(path));
    }
  }
  return { used: [...used].sort(), system };
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
