import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { realpathSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import type { Allowed } from "./allowed.ts";
import { confinementFacts, starterPath } from "./starter.ts";
import type { Effort } from "./types.ts";

export interface ConfinedProgram {
  /** Node's flags, the main module, its arguments. */
  readonly args: readonly string[];
  /** The starter lets few names through. */
  readonly env: Readonly<Record<string, string>>;
  readonly stdio: readonly (number | "ignore" | "pipe" | "ipc")[];
  readonly allowed: Allowed;
  readonly effort: Effort;
}

/** Exit status of the starter when it cannot apply something; standard error then says what. */
export const starterRefused = 125;

/** Interpreter of dynamic programs: executed by the kernel in Node's place. */
const interpreter = "/lib64/ld-linux-x86-64.so.2";

/**
 * Starts Node with fewer privileges: no new ones, no capabilities, no terminal, no file but those allowed, no descriptor but
 * those of `stdio`, and it dies with this process.
 *
 * @throws KL_CONFINE_UNAVAILABLE, KL_ADDON_*
 */
export function spawnConfined({ args, env, stdio, allowed, effort }: ConfinedProgram): ChildProcess {
  demandConfinement(effort);
  const node = realpathSync(process.execPath);
  const rules = (flag: string, paths: readonly string[] = []): string[] => paths.flatMap((path) => [flag, path]);
  const options = [
    ...(effort === "best-effort" ? ["--best-effort"] : []),
    ...["--parent", String(process.pid), "--descriptors", String(stdio.length)],
    ...rules("-r", allowed.read),
    ...rules("-w", allowed.write),
    ...rules("-d", allowed.devices),
    ...rules("-x", [node, interpreter]),
  ];
  // The system's OpenSSL file may name libraries to load; it is not read.
  return spawn(starterPath(), [...options, "--", node, "--openssl-config=/dev/null", ...args], {
    cwd: "/",
    // Without io_uring, which no filter on calls sees into.
    env: { ...env, UV_USE_IO_URING: "0" },
    stdio: stdio as StdioOptions,
  });
}

/** @throws KL_CONFINE_UNAVAILABLE when all of it is asked for and this system has not all */
export function demandConfinement(effort: Effort): void {
  const { landlock, seccomp } = confinementFacts();
  if (effort === "best-effort" || (landlock > 0 && seccomp)) return;
  const missing = [...(landlock > 0 ? [] : ["Landlock"]), ...(seccomp ? [] : ["seccomp"])];
  fail("KL_CONFINE_UNAVAILABLE", `This system cannot confine kernels: it has no ${missing.join(" and no ")}.`, {
    remedy: "Use Linux 5.13 or newer with both enabled, or say confinement: best-effort in the policy.",
    details: { landlock, seccomp },
  });
}
