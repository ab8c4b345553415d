/** The engine as callers get it: the five packages out of a real lock and cache, one engine for each way of asking. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultRequest, type Engine, readMachineFacts, startEngine } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { type Loaded, loadKernels, openCache, parseLock, type SealedKernel } from "@kernlock/loader";
import { type PlanRequest, parsePin } from "@kernlock/policies/compatibility";
import { parsePolicy } from "@kernlock/policies/trust";
import { root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";

export { root };
export const models = {
  tiny: join(root, "test/golden/tiny-mxfp4"),
  sharded: join(root, "test/golden/tiny-mxfp4-sharded"),
  dictionary: join(root, "models/dictionary"),
} as const;

let loaded: Promise<Loaded> | undefined;

/** Verified and sealed once a test process. */
export function sealedKernels(): Promise<readonly SealedKernel[]> {
  loaded ??= testProject().then(({ folder }) => {
    const read = (name: string): Uint8Array => readFileSync(join(folder, name));
    return loadKernels({
      lock: parseLock(read("kernels.lock")),
      policy: parsePolicy(read("kernels.policy.yaml")),
      cache: openCache(join(folder, "cache")),
      machine: readMachineFacts(),
      now: new Date(),
    });
  });
  return loaded.then(({ kernels }) => kernels);
}

/** `moe` pins the experts' kernel; dequantisation is allowed, so that it alone decides. */
export async function startOn(
  folder: string,
  { moe, ...asked }: { readonly moe?: string } & Partial<PlanRequest> = {},
  change: (kernels: readonly SealedKernel[]) => readonly SealedKernel[] = (kernels) => kernels,
): Promise<Engine> {
  const kernels = change(await sealedKernels());
  const names = [...new Set(kernels.map(({ name }) => name))];
  const pins = moe === undefined ? [] : [parsePin(`moe=${moe}`, names)];
  const model = openModel(folder);
  try {
    const request = defaultRequest({ pins, allowDequant: true, policyAllowsDequant: true, ...asked });
    return await startEngine({ kernels, model, request });
  } finally {
    model.close();
  }
}
