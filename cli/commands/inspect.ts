import { readMachineFacts } from "@kernlock/engine";
import { formatInspection, inspectModel, type Model, modelFacts, openModel } from "@kernlock/engine/model";
import { KernlockError } from "@kernlock/kernels/format";
import { openCache } from "@kernlock/loader";
import { type Plan, plan } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { lockedKernelFacts, readLock, readPolicy } from "../locked.ts";
import { errorJson } from "../output.ts";
import { type PlanFlags, planRequest, withPlanFlags } from "../plan-flags.ts";
import { planSummary } from "../plan-text.ts";
import { findProject, type ProjectOptions } from "../project.ts";

export function inspectCommand(): Command {
  return command<ProjectOptions & PlanFlags>(
    "inspect <model>",
    "say what a model folder declares and holds, and whether this machine can run it with the locked kernels",
    (target) => withPlanFlags(withProject(target)),
    async ({ output, options, args }) => {
      const model = openModel(args[0] ?? "");
      try {
        const inspection = inspectModel(model);
        const outcome = await planOrRefusal(model, options);
        const runs =
          outcome instanceof KernlockError
            ? { ok: false, error: errorJson(outcome) }
            : { ok: true, memory: outcome.memory };
        output.result({ ...inspection, runs_here: runs }, () => {
          const verdict =
            outcome instanceof KernlockError
              ? `\nruns here: no, [${outcome.code}] ${outcome.message}\n${outcome.remedy === undefined ? "" : `  ${outcome.remedy}\n`}`
              : `\nruns here: yes\n${planSummary(outcome)}\n`;
          return `${formatInspection(inspection)}${verdict}`;
        });
      } finally {
        model.close();
      }
      return 0;
    },
  );
}

/** What the planner says of a model under the project's lock; its refusal is an answer, not a failure. */
export async function planOrRefusal(model: Model, options: ProjectOptions & PlanFlags): Promise<Plan | KernlockError> {
  try {
    const project = findProject(options);
    const policy = readPolicy(project);
    const kernels = await lockedKernelFacts(readLock(project), openCache(project.cache), policy);
    const request = planRequest(
      options,
      policy,
      kernels.map((kernel) => kernel.name),
    );
    return plan({ model: modelFacts(model), machine: readMachineFacts(), kernels, request });
  } catch (error) {
    if (error instanceof KernlockError && error.code !== "KL_CLI_USAGE") return error;
    throw error;
  }
}
