/** Readers of machine code files that build, publish and load share. They take hostile bytes and run nothing. */
export { checkSharedObject, type ElfCheck } from "./check.ts";
export { type ElfFacts, type ElfSegment, inspectElf } from "./elf.ts";
