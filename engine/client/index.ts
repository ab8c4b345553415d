/**
 * The engine as its callers see it. The plan is made here, in the caller's process; everything that touches kernels and
 * weights runs in a host process of its own, which gets sealed kernels and open files as descriptors and nothing else.
 */
export { type Confinement, type ConfinementFacts, confinementFacts, demandConfinement } from "../confine/index.ts";
export { type BenchOptions, type BenchShape, benchOps, type Timed } from "./bench.ts";
export { type EarlyHost, startEarlyHost } from "./early.ts";
export { defaultRequest, kernelFacts, startEngine } from "./engine.ts";
export { readMachineFacts } from "./machine.ts";
export { nativePaths } from "./native.ts";
export type { DeviceMemory, Driver, Loading, Ring, Timeline, Watch, Watched } from "./protocol.ts";
export { type SelftestOptions, type Tested, testOps } from "./selftest.ts";
export * from "./types.ts";
