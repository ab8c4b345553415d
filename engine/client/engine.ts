import type { Model } from "@kernlock/engine/model";
import type { SealedKernel } from "@kernlock/loader";
import type { KernelFacts, PlanRequest } from "@kernlock/policies/compatibility";
import type { Engine, EngineOptions } from "./types.ts";

/** What `generate` asks for when nobody says anything; override what you need. */
export function defaultRequest(overrides: Partial<PlanRequest> = {}): PlanRequest {
  return {
    device: "auto",
    mode: null,
    pins: [],
    allowDequant: false,
    policyAllowsDequant: false,
    maxContext: null,
    maxSequences: null,
    maxBatchTokens: null,
    workers: null,
    ...overrides,
  };
}

/** What the planner wants to know about a kernel that the loader has sealed. */
export function kernelFacts(kernel: SealedKernel): KernelFacts {
  return {
    name: kernel.name,
    version: kernel.version,
    digest: kernel.manifest,
    signers: kernel.signers,
    descriptor: kernel.variant,
  };
}

/**
 * Plans, starts the host, hands it kernels and model, and resolves when the weights are in place.
 * Closing the model or the kernels afterwards is the caller's: the host has its own copies of the descriptors.
 *
 * @throws KL_PLAN_*, KL_LOAD_*, KL_MODEL_*, KL_ENGINE_*
 */
export function startEngine(
  _parts: EngineOptions & { readonly kernels: readonly SealedKernel[]; readonly model: Model },
): Promise<Engine> {
  throw new Error("not written yet");
}
