import { openCache, type VerifyReport, verifyLocked } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { nothingLocked, readAnyLock, readManifest, readPolicy } from "../locked.ts";
import { errorJson } from "../output.ts";
import { rememberVerdicts } from "../policies.ts";
import { findProject, type ProjectOptions } from "../project.ts";

export function verifyCommand(): Command {
  return command<ProjectOptions & { readonly frozen?: boolean }>(
    "verify",
    "re-hash every file that the lock pins, verify every signature, and ask the policy; touches no network",
    (target) => withProject(target).option("--frozen", "also refuse a lock that was made under another policy"),
    async ({ output, options }) => {
      const project = findProject(options);
      const lock = readAnyLock(project);
      const manifest = readManifest(project);
      const policy = readPolicy(project);
      const report = await verifyLocked({
        lock,
        manifest,
        policy,
        cache: openCache(project.cache),
        now: new Date(),
        frozen: options.frozen === true,
      });
      rememberVerdicts(
        project.policy,
        policy,
        report.kernels.map(({ verdict }) => verdict),
      );
      const first = report.problems[0] ?? report.kernels.flatMap((kernel) => kernel.problems)[0];
      output.result(
        {
          ok: report.ok,
          policy_changed: report.policyChanged,
          manifest: manifest === undefined ? null : project.manifest,
          ...(first === undefined ? {} : { error: errorJson(first) }),
          problems: report.problems.map(errorJson),
          kernels: report.kernels.map((kernel) => ({
            name: kernel.name,
            version: kernel.version,
            ok: kernel.ok,
            files_checked: kernel.filesChecked,
            problems: kernel.problems.map(errorJson),
            mode: kernel.verdict?.mode ?? null,
            waivers: kernel.verdict?.waivers ?? [],
            warnings: kernel.verdict?.warnings ?? [],
            verdict: kernel.verdict?.tree ?? null,
          })),
        },
        () => reportText(report, manifest !== undefined),
      );
      return report.ok ? 0 : 1;
    },
  );
}

function reportText(report: VerifyReport, manifest: boolean): string {
  const problem = (indent: string) => (error: VerifyReport["problems"][number]) =>
    `${indent}[${error.code}] ${error.message}${error.remedy === undefined ? "" : `\n${indent}  ${error.remedy}`}`;
  return [
    ...report.problems.map(problem("")),
    ...report.kernels.flatMap((kernel) => [
      `${kernel.ok ? "ok" : "NO"}  ${kernel.name} ${kernel.version}, ${kernel.filesChecked} files`,
      ...kernel.problems.map(problem("    ")),
      ...(kernel.verdict?.waivers ?? []).map(
        ({ kind, requirement, reason, expires }) => `    ${kind}: ${requirement} waived until ${expires}: ${reason}`,
      ),
      ...(kernel.verdict?.warnings ?? []).map(
        (warning) => `    warning: ${warning.code ?? ""} ${warning.reason ?? warning.requirement}`,
      ),
    ]),
    ...(report.ok && report.kernels.length === 0 ? [nothingLocked] : []),
    ...(manifest ? [] : ["note: there is no kernels.json beside the lock, so nothing says what it has to hold"]),
    ...(report.policyChanged ? ["note: the lock was made under another policy"] : []),
    report.ok ? "verified" : "refused",
    "",
  ].join("\n");
}
