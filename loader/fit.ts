import type { Backend, ErrorCode, Variant } from "@kernlock/kernels/format";
import { codeText } from "@kernlock/policies/compatibility";
import type { LoadMachine } from "./types.ts";

type CudaBackend = Extract<Backend, { kind: "cuda" }>;
const cpuLevels = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];

/** Why a variant cannot run on a machine; null where it can. `permits`: what the policy permits of its package. */
export function misfit(
  variant: Variant,
  machine: LoadMachine,
  permits: { readonly ptx: boolean },
): { code: ErrorCode; reason: string } | null {
  const { platform, backend } = variant;
  const is = (code: ErrorCode, reason: string) => ({ code, reason });
  if (platform.os !== machine.os || platform.arch !== machine.arch) {
    return is("KL_LOAD_PLATFORM", `It is for ${platform.os} on ${platform.arch}.`);
  }
  if (platform.libc.family !== machine.libc.family || isOlder(machine.libc.version, platform.libc.minimum)) {
    return is("KL_LOAD_LIBC", `It needs ${platform.libc.family} ${platform.libc.minimum} or newer.`);
  }
  switch (backend.kind) {
    case "cpu":
      return cpuLevels.indexOf(machine.cpu.level) < cpuLevels.indexOf(backend.level)
        ? is("KL_LOAD_CPU", `It needs a CPU of level ${backend.level}.`)
        : null;
    case "cuda": {
      const { cuda } = machine;
      if (cuda === undefined) return is("KL_LOAD_NO_CUDA", "It needs a GPU, and this machine has no CUDA driver.");
      if (isOlder(cuda.driver, backend.driver)) {
        return is("KL_LOAD_DRIVER", `It needs a driver for CUDA ${backend.driver} or newer.`);
      }
      if (backend.architectures.some((architecture) => cuda.architectures.includes(architecture))) return null;
      if (ptxFor(backend, cuda.architectures).length === 0) return is("KL_LOAD_GPU", `It is for ${codeText(backend)}.`);
      return permits.ptx ? null : is("KL_LOAD_GPU", "It has only PTX for this GPU, which the policy does not permit.");
    }
  }
}

/** The PTX of a variant that a driver has to compile before a GPU of this machine runs it: none where machine code fits one. */
export function compiledHere({ backend }: Variant, { cuda }: LoadMachine): readonly string[] {
  if (backend.kind !== "cuda" || cuda === undefined) return [];
  const native = backend.architectures.some((architecture) => cuda.architectures.includes(architecture));
  return native ? [] : ptxFor(backend, cuda.architectures);
}

/**
 * PTX that a driver could compile for one of the GPUs whose machine code is listed. A GPU's list has its own number and
 * older ones of its family: plain PTX goes forward from its number, any other kind (`a`, `f`) runs where machine code of
 * that very name does.
 */
function ptxFor({ ptx }: CudaBackend, architectures: readonly string[]): string[] {
  const newest = Math.max(...architectures.map(numberOf));
  return ptx.filter((target) => (/\d$/.test(target) ? numberOf(target) <= newest : architectures.includes(target)));
}
const numberOf = (architecture: string): number => Number(/^sm_(\d+)[af]?$/.exec(architecture)?.[1] ?? Number.NaN);

/** Compares versions of the form 2.17, by number. */
function isOlder(version: string, minimum: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = minimum.split(".").map(Number);
  return major !== wantedMajor ? major < wantedMajor : minor < wantedMinor;
}
