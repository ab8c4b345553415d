import { fail, type VariantOp } from "../format/index.ts";
import type { CompiledKernel } from "./compile-triton.ts";
import type { OpSource } from "./source.ts";

/** Ops as variant.json has them: launch data completed by what the compiled kernels ask for. */
export function completeOps(ops: readonly OpSource[], kernels: ReadonlyMap<string, CompiledKernel>): VariantOp[] {
  return ops.map(({ launch, ...op }) => {
    if (launch === undefined) return op;
    const steps = launch.steps.map(({ file, params, ...rest }) => {
      const kernel = kernels.get(file);
      if (kernel === undefined) return fail("KL_BUILD_SOURCE", `Nothing compiles ${file}, which an op launches.`);
      return {
        ...rest,
        file,
        entry: kernel.entry,
        block: [kernel.threads, 1, 1] as [number, number, number],
        shared_bytes: kernel.sharedBytes,
        // Triton's scratch and profile buffers, which none of these kernels has.
        params: [...kernel.params.map((name) => params[name]!), { kind: "null" as const }, { kind: "null" as const }],
      };
    });
    return { ...op, launch: { ...launch, steps } };
  });
}
