import { join } from "node:path";
import { fail } from "../format/index.ts";
import { type ProvisionedSet, type ProvisionOptions, provision } from "../toolchain/index.ts";
import { runProgram } from "./process.ts";
import { compilerEnvironment, digestFile, findProgram, type Tool } from "./toolchain.ts";

/** The pinned nvcc. Throws `KL_BUILD_TOOLCHAIN`. */
export async function cudaCompiler(options: ProvisionOptions): Promise<{ nvcc: string; set: ProvisionedSet }> {
  const set = await provision("nvcc", options);
  return { nvcc: join(set.folder, "nvidia", "cu13", "bin", "nvcc"), set };
}

let known: Promise<{ command: readonly [string, ...string[]]; tool: Tool }> | undefined;

/**
 * The command under which device compilers run: without address randomisation, on which some versions of ptxas let their
 * output depend. Throws `KL_BUILD_TOOLCHAIN` where the system refuses it, for the bytes would not be the same twice.
 */
export function fixedAddresses(): Promise<{ command: readonly [string, ...string[]]; tool: Tool }> {
  known ??= (async () => {
    const run = await runProgram("setarch", ["-R", "true"], { env: compilerEnvironment(), timeoutMs: 10_000 });
    if (run.status !== 0) {
      fail("KL_BUILD_TOOLCHAIN", "Address randomisation cannot be turned off for compilers (setarch -R).", {
        remedy: "Allow personality(ADDR_NO_RANDOMIZE), which some container profiles refuse, and install util-linux.",
        details: { output: run.stderr.slice(0, 500) },
      });
    }
    const path = await findProgram("setarch");
    return { command: [path, "-R"] as const, tool: { name: "setarch", digest: await digestFile(path) } };
  })();
  known.catch(() => {
    known = undefined;
  });
  return known;
}
