export interface KernelSource {
  readonly name: string;
  readonly version: string;
}
/** Reads kernel.json. Throws `KL_JSON_*`, `KL_BUILD_SOURCE`. */
export function parseKernelSource(_bytes: Uint8Array | string): KernelSource {
  throw new Error("to come");
}
