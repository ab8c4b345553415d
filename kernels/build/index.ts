/** Source tree of a package -> variants -> OCI layout, with SLSA provenance. `addon.ts` builds our own native code. */
export { allowedLibraries, type BuildOptions, type BuildResult, buildPackage } from "./package.ts";
export { buildType, type Scope } from "./provenance.ts";
export { sourceRevision } from "./revision.ts";
export { type CompileStep, type KernelSource, parseKernelSource, type VariantSource } from "./source.ts";
