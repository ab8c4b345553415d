import { Command, Option } from "commander";
import { asKernlockError, exitCodeOf } from "./errors.ts";
import { createOutput, type Output } from "./output.ts";

export interface Invocation<O> {
  readonly output: Output;
  readonly options: O & { readonly json?: boolean };
  readonly args: readonly string[];
}

/**
 * One command: its words, its options, and what it does. Every command has `--json`; every error, also one of usage,
 * leaves through here.
 */
export function command<O extends object>(
  usageLine: string,
  summary: string,
  configure: (command: Command) => Command,
  run: (invocation: Invocation<O>) => Promise<number | undefined>,
): Command {
  const result = new Command(usageLine.split(" ")[0])
    .description(summary)
    .option("--json", "print the result as JSON on stdout, everything else on stderr");
  const rest = usageLine.split(" ").slice(1).join(" ");
  if (rest !== "") result.arguments(rest);
  configure(result);
  result.action(async (...given: unknown[]) => {
    const self = given.at(-1) as Command;
    const options = self.opts<O & { json?: boolean }>();
    const output = createOutput(options.json === true, process.stdout, process.stderr);
    try {
      process.exitCode = (await run({ output, options, args: self.args })) ?? 0;
    } catch (error) {
      const known = asKernlockError(error);
      output.error(known);
      process.exitCode = exitCodeOf(known);
    }
  });
  return result;
}

/** Options that name a project's files, shared by every command that reads a lock. */
export const projectOptions = {
  lock: () => new Option("--lock <file>", "the lock (default: kernels.lock here or above)"),
  policy: () => new Option("--policy <file>", "the policy (default: kernels.policy.yaml beside the lock)"),
  cache: () => new Option("--cache <folder>", "the cache (default: cache/ beside the lock, else the user's)"),
};

export function withProject(target: Command): Command {
  return target.addOption(projectOptions.lock()).addOption(projectOptions.policy()).addOption(projectOptions.cache());
}

export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}
