/** Engines for benchmarks: kernels are verified and sealed once, and one engine is started after another. */
import { type Engine, type EngineOptions, readMachineFacts, startEngine } from "@kernlock/engine";
import { type Model, modelFacts } from "@kernlock/engine/model";
import { appendAudit, type SealedKernel } from "@kernlock/loader";
import type { KernelFacts, MachineFacts, PlanRequest } from "@kernlock/policies/compatibility";
import { plan } from "@kernlock/policies/compatibility";
import { auditLogPath } from "../audit.ts";
import type { Early } from "../early.ts";
import { readLocked, sealLocked } from "../locked.ts";
import type { Output } from "../output.ts";
import { type PlanFlags, planRequest } from "../plan-flags.ts";
import { findProject, type ProjectOptions } from "../project.ts";

export interface Session extends Disposable {
  readonly machine: MachineFacts;
  readonly facts: readonly KernelFacts[];
  readonly kernels: readonly SealedKernel[];
  /** What the flags ask of the planner. */
  readonly asked: PlanRequest;
  /** @throws KL_PLAN_*, KL_LOAD_*, KL_ENGINE_*, KL_MODEL_* */
  start(
    model: Model,
    request: Partial<PlanRequest>,
    options?: Pick<EngineOptions, "ahead" | "careful" | "loading">,
  ): Promise<Engine>;
}

/** `mark` hears when a part is done; the first engine takes the host that was started early. */
export async function openSession(
  flags: ProjectOptions & PlanFlags,
  output: Output,
  mark: (part: string) => void = () => {},
  early?: Early,
): Promise<Session> {
  const machine = early?.machine ?? readMachineFacts();
  if (early === undefined) mark("look at the machine");
  const locked = await readLocked(findProject(flags));
  mark("read lock and policy");
  const { facts } = locked;
  const asked = planRequest(
    flags,
    locked.policy,
    facts.map(({ name }) => name),
  );
  const loaded = await sealLocked(locked, machine);
  const { kernels } = loaded;
  return {
    ...{ machine, facts, kernels, asked },
    async start(model, overrides, options = {}) {
      const request = { ...asked, ...overrides };
      plan({ model: modelFacts(model), machine, kernels: facts, request });
      return startEngine({
        ...{ kernels, locked: facts, machine, model, request },
        ...options,
        ...(early === undefined ? {} : { early: early.host }),
        onPlan: (made) =>
          void appendAudit(auditLogPath(), { event: "plan", time: new Date().toISOString(), plan: made }),
        onProgress: (done, total) =>
          output.progress(`weights ${total === 0 ? 100 : Math.floor((100 * done) / total)} %`),
      });
    },
    [Symbol.dispose]: () => loaded.close(),
  };
}
