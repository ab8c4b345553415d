import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { KernlockError, prettyJson } from "@kernlock/kernels/format";
import type { Command } from "commander";
import { collect, command, withProject } from "../command.ts";
import { asKernlockError } from "../errors.ts";
import { errorJson } from "../output.ts";
import { type PlanFlags, withPlanFlags } from "../plan-flags.ts";
import type { ProjectOptions } from "../project.ts";
import { checkGolden, demandGolden, type GoldenResult } from "../selftest/golden.ts";
import { withEngine } from "./generate.ts";

interface Options extends ProjectOptions, PlanFlags {
  readonly model?: readonly string[];
  readonly evidence?: string;
}

/** What ran where: enough for a reader to judge, and to be signed as test evidence. */
interface Evidence {
  readonly schema: "kernlock.selftest/v1";
  readonly time: string;
  readonly device: string;
  readonly driver: unknown;
  readonly mode: string;
  readonly kernels: readonly {
    readonly name: string;
    readonly version: string;
    readonly variant: string;
    readonly digest: string;
  }[];
}

export function selftestCommand(): Command {
  return command<Options>(
    "selftest",
    "run the locked kernels on this machine against recorded answers",
    (target) =>
      withPlanFlags(
        withProject(target.option("--model <dir>", "a model folder with recorded answers; may be repeated", collect)),
      ).option("--evidence <file>", "write what was found, ready to be signed with kernlock attest"),
    async ({ output, options }) => {
      const results: (GoldenResult & { readonly error?: ReturnType<typeof errorJson> })[] = [];
      let evidence: Evidence | null = null;
      for (const model of options.model ?? []) {
        const files = demandGolden(model);
        try {
          await withEngine({ ...options, model }, output, 8, async (engine) => {
            const { plan, driver } = engine;
            const used = new Map(
              [...plan.ops, ...plan.conversions].map((one) => [`${one.kernel} ${one.variant}`, one]),
            );
            evidence = {
              schema: "kernlock.selftest/v1",
              time: new Date().toISOString(),
              device: driver?.device ?? plan.device,
              driver,
              mode: plan.mode,
              kernels: [...used.values()].map(({ kernel, version, variant, digest }) => ({
                name: kernel,
                version,
                variant,
                digest,
              })),
            };
            for (const file of files) {
              output.progress(`${basename(model)} ${file}`);
              const started = performance.now();
              const result = await checkGolden(engine, model, file);
              const seconds = ((performance.now() - started) / 1000).toFixed(1);
              results.push({ ...result, text: `${result.text} [${seconds} s]` });
            }
          });
        } catch (error) {
          if (error instanceof KernlockError && error.code === "KL_CLI_USAGE") throw error;
          const known = asKernlockError(error);
          results.push({
            model,
            file: files.join(),
            ok: false,
            text: known.message,
            measured: {},
            error: errorJson(known),
          });
        }
      }
      const ok = results.every((result) => result.ok);
      const found = { ...(evidence ?? {}), ok, golden: results };
      if (options.evidence !== undefined) writeFileSync(options.evidence, prettyJson(found));
      output.result(found, () =>
        results
          .map(({ ok: passed, model, file, text, error }) => {
            const code = error === undefined ? "" : `[${error.code}] `;
            return `${passed ? "ok  " : "NO  "} ${basename(model)} ${file}: ${code}${text}\n`;
          })
          .join(""),
      );
      return ok ? 0 : 1;
    },
  );
}
