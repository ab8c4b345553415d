/** What a confined process does itself, when it has opened all it needs. Nothing of it can be taken back. */
import { createRequire } from "node:module";
import { fail } from "@kernlock/kernels/format";
import type { Effort } from "./types.ts";

interface Native {
  /** An errno; 0 when every thread of the process is confined. */
  confine(strength: "host" | "renderer", alarm: number): number;
}

/** How the host is told to confine itself: these follow the main module on its command line. */
export const confineArguments = (addon: string, alarm: number, effort: Effort): string[] => [addon, `${alarm}`, effort];

/**
 * From here on, for every thread: no socket, process, new file or write to one, no look into other processes. A refused
 * call fails with EPERM, and its number is written to the alarm. False, and nothing done, in a process that was not told to.
 *
 * @throws KL_CONFINE_UNAVAILABLE
 */
export function confineHost([addon, alarm, effort]: readonly string[]): boolean {
  if (addon === undefined) return false;
  const native = createRequire(import.meta.url)(addon) as Native;
  const errno = native.confine("host", Number(alarm));
  if (errno === 0 || effort === "best-effort") return true;
  return fail("KL_CONFINE_UNAVAILABLE", `The engine host cannot confine itself (seccomp, error ${errno}).`, {
    remedy: "Use Linux with seccomp, or say confinement: best-effort in the policy.",
  });
}
