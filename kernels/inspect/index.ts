/** Readers of machine code files that build, publish and load share. They take hostile bytes and run nothing. */
export { checkSharedObject, type ElfCheck } from "./check.ts";
export { type CubinFacts, type CubinKernel, inspectCubin } from "./cubin.ts";
export { checkDeviceCode, type DeviceCode, findDeviceCode, readDeviceImage } from "./device-code.ts";
export { type ElfFacts, type ElfSegment, inspectElf } from "./elf.ts";
export { type FatbinEntry, type FatbinFacts, inspectFatbin, type PtxFacts } from "./fatbin.ts";
