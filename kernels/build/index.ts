/** Source tree of a package -> variants -> OCI layout, with SLSA provenance. `addon.ts` builds our own native code. */
export { type BuildOptions, type BuildResult, buildPackage } from "./package.ts";
export { type KernelSource, parseKernelSource } from "./source.ts";
export { buildType, type Scope } from "./provenance.ts";
