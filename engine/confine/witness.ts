import { readdirSync, readFileSync } from "node:fs";
import { confinementFacts } from "./starter.ts";
import type { Confinement, Effort } from "./types.ts";

/** Filters that a process has once it has confined itself, besides those that it inherits from here: the starter's and its own. */
const filters = 2;

/**
 * What the kernel says about every thread of a process. Landlock cannot be seen from outside: the starter, which nothing
 * untrusted has run in, ends instead of starting anything when it cannot apply it.
 */
export function witness(pid: number, effort: Effort): Confinement {
  const tasks = readdirSync(`/proc/${pid}/task`).map((task) => statusOf(`/proc/${pid}/task/${task}/status`));
  const threads = tasks.filter((status) => status !== null);
  const wanted = filters + Number(statusOf("/proc/self/status")?.get("Seccomp_filters") ?? 0);
  const all = (name: string, good: (value: string) => boolean): boolean =>
    threads.length > 0 && threads.every((status) => good(status.get(name) ?? ""));
  return {
    effort,
    landlock: confinementFacts().landlock,
    seccomp: all("Seccomp", (mode) => mode === "2") && all("Seccomp_filters", (n) => n === "" || Number(n) >= wanted),
    no_new_privs: all("NoNewPrivs", (value) => value === "1"),
    // The bounding set says what a program could give; with no_new_privs none can give anything.
    no_capabilities: ["CapInh", "CapPrm", "CapEff", "CapAmb"].every((name) => all(name, (bits) => /^0+$/.test(bits))),
  };
}

/** Null for a thread that has ended meanwhile. */
function statusOf(path: string): ReadonlyMap<string, string> | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return null;
  }
  return new Map(text.split("\n").map((line) => line.split(/:\s*/, 2) as [string, string]));
}
