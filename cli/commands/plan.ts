import { readMachineFacts } from "@kernlock/engine";
import { modelFacts, openModel } from "@kernlock/engine/model";
import { openCache } from "@kernlock/loader";
import { plan } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { lockedKernelFacts, readLock, readPolicy } from "../locked.ts";
import { type PlanFlags, planRequest, withPlanFlags } from "../plan-flags.ts";
import { planText } from "../plan-text.ts";
import { findProject, type ProjectOptions } from "../project.ts";

export function planCommand(): Command {
  return command<ProjectOptions & PlanFlags & { readonly model: string }>(
    "plan",
    "say which kernel would run each node of a model, what is converted and what memory it takes; loads nothing",
    (target) =>
      withPlanFlags(
        withProject(
          target.requiredOption(
            "--model <dir>",
            "folder of a gpt-oss checkpoint, or a name in the local Hugging Face cache",
          ),
        ),
      ),
    async ({ output, options }) => {
      const project = findProject(options);
      const policy = readPolicy(project);
      const kernels = await lockedKernelFacts(readLock(project), openCache(project.cache), policy);
      const model = openModel(options.model);
      try {
        const request = planRequest(
          options,
          policy,
          kernels.map((kernel) => kernel.name),
        );
        const result = plan({ model: modelFacts(model), machine: readMachineFacts(), kernels, request });
        output.result(result, () => planText(result));
      } finally {
        model.close();
      }
      return 0;
    },
  );
}
