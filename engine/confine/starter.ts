import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { buildAddon, buildProgram } from "@kernlock/kernels/build/addon";
import type { ConfinementFacts } from "./types.ts";

const folder = join(import.meta.dirname, "native");
let starter: string | undefined;
let addon: string | undefined;
let facts: ConfinementFacts | undefined;

/** The program that starts others confined. @throws KL_ADDON_* */
export function starterPath(): string {
  starter ??= buildProgram({ name: "kernlock-start", folder, sources: ["starter.cc"] });
  return starter;
}

/** The addon with which a started process confines itself further. @throws KL_ADDON_* */
export function confineAddonPath(): string {
  addon ??= buildAddon({ name: "confine", folder, sources: ["addon.cc"] });
  return addon;
}

/** What this system can do. Another system than Linux can do nothing. @throws KL_ADDON_* */
export function confinementFacts(): ConfinementFacts {
  facts ??= process.platform === "linux" ? probe() : { landlock: 0, seccomp: false };
  return facts;
}

function probe(): ConfinementFacts {
  const { status, stdout } = spawnSync(starterPath(), ["--probe"], { env: {}, encoding: "utf8" });
  // It prints nothing else; where it does not even run, nothing can be confined.
  return status === 0 ? (JSON.parse(stdout) as ConfinementFacts) : { landlock: 0, seccomp: false };
}
