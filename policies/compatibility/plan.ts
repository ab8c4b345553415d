import type { KernelFacts, MachineFacts, ModelFacts, Plan, PlanRequest } from "./types.ts";

export function plan(_facts: {
  readonly model: ModelFacts;
  readonly machine: MachineFacts;
  readonly kernels: readonly KernelFacts[];
  readonly request: PlanRequest;
}): Plan {
  throw new Error("not written yet");
}
