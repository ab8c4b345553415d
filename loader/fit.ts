import type { ErrorCode, Variant } from "@kernlock/kernels/format";
import type { LoadMachine } from "./types.ts";

const cpuLevels = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];

/** Why a variant cannot run on a machine; null where it can. */
export function misfit(variant: Variant, machine: LoadMachine): { code: ErrorCode; reason: string } | null {
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
      return backend.architectures.some((architecture) => cuda.architectures.includes(architecture))
        ? null
        : is("KL_LOAD_GPU", `It is for ${backend.architectures.join(", ")}.`);
    }
  }
}

/** Compares versions of the form 2.17, by number. */
function isOlder(version: string, minimum: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = minimum.split(".").map(Number);
  return major !== wantedMajor ? major < wantedMajor : minor < wantedMinor;
}
