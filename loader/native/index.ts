/** Sealed memory files. The addon is compiled on first use; nothing else of the loader needs it. */
export interface Native {
  /** A new memory file that can be sealed and, where the kernel knows how, never be executed as a program. */
  createSealable(name: string): number;
  /** No write, no growth, no shrinking, no further seals, from now on. */
  seal(fd: number): void;
  /** The seals of a descriptor (F_GET_SEALS); throws on what is not a memory file. */
  seals(fd: number): number;
}

/** KL_NATIVE_BUILD, KL_SEAL_UNAVAILABLE. */
export async function loadNative(): Promise<Native> {
  throw new Error("not yet");
}
