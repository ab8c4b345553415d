/** `required`: what cannot be confined does not run. `best-effort`: what the system offers is applied, and reported. */
export type Effort = "required" | "best-effort";

/** What a system can do. */
export interface ConfinementFacts {
  /** Version of the kernel's Landlock; 0 without. */
  readonly landlock: number;
  readonly seccomp: boolean;
}

/** What holds for a process, as its parent saw it. */
export interface Confinement extends ConfinementFacts {
  readonly effort: Effort;
  readonly no_new_privs: boolean;
  readonly no_capabilities: boolean;
}
