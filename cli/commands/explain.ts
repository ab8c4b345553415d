import { explainLocked, openCache } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { readLock, readPolicy } from "../locked.ts";
import { errorJson } from "../output.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { verdictText } from "../verdict-text.ts";

export function explainCommand(): Command {
  return command<ProjectOptions>(
    "explain <kernel>",
    "what the policy requires of a locked kernel, what was found, and why it is allowed or not; touches no network",
    (target) => withProject(target),
    async ({ output, options, args: [name = ""] }) => {
      const project = findProject(options);
      const policy = readPolicy(project);
      const cache = openCache(project.cache);
      const explained = await explainLocked({ lock: readLock(project), policy, cache, now: new Date(), name });
      const { version, verdict, problems } = explained;
      const ok = problems.length === 0;
      output.result(
        {
          ok,
          name,
          version,
          policy: policy.digest,
          operator_policy: policy.above?.digest ?? null,
          verdict,
          problems: problems.map(errorJson),
        },
        () =>
          [
            `${name} ${version}: ${ok ? "allowed" : "refused"}\n`,
            `policy ${policy.digest}${policy.above === undefined ? "" : `, below the operator's ${policy.above.digest}`}\n\n`,
            verdict === null ? "" : verdictText(verdict),
            ...problems.map((problem) => `\n[${problem.code}] ${problem.message}\n  ${problem.remedy ?? ""}\n`),
          ].join(""),
      );
      return ok ? 0 : 1;
    },
  );
}
