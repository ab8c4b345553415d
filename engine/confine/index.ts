/**
 * Confinement of processes that run what strangers wrote. A small native starter takes privileges away before Node runs
 * (no_new_privs, Landlock, capabilities, descriptors); the process takes the rest from itself (seccomp, all threads) when it
 * has opened what it needs and before it runs what is not ours. docs/security/confinement.md lists both.
 */
export { type Allowed, allowedToHost, allowedToRenderer } from "./allowed.ts";
export { confineArguments } from "./self.ts";
export { type ConfinedProgram, demandConfinement, spawnConfined, starterRefused } from "./spawn.ts";
export { confineAddonPath, confinementFacts, starterPath } from "./starter.ts";
export type { Confinement, ConfinementFacts, Effort } from "./types.ts";
export { callName, violation } from "./violation.ts";
export { witness } from "./witness.ts";
