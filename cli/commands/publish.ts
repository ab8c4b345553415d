import type { Command } from "commander";
import { readFile } from "../attest.ts";
import { collect, command } from "../command.ts";
import { usage } from "../errors.ts";
import { type KeyFlags, signerFrom, withKey } from "../keys/flags.ts";
import { publishLayout } from "../publish.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";

interface Options extends RegistryFlags, KeyFlags {
  readonly bundle?: readonly string[];
}

export function publishCommand(): Command {
  return command<Options>(
    "publish <layout>",
    "sign a layout's statements and publish it; the version becomes visible only if the namespace's policy accepts it",
    (target) =>
      withKey(withRegistry(target)).option(
        "--bundle <file>",
        "push this bundle too, which somebody signed about the version: an audit, a test (again for more)",
        collect,
      ),
    async ({ output, options, args }) => {
      if (options.registry === undefined) usage("publish needs --registry.");
      const registry = registryClient(options, options.registry.replace(/\/+$/, ""));
      try {
        const more = (options.bundle ?? []).map((file) => ({ file, bytes: readFile(file) }));
        const progress = (line: string) => output.progress(line);
        const done = await publishLayout(args[0] ?? "", signerFrom(options), registry, progress, more);
        output.result(
          done,
          () =>
            `${done.state} ${done.name} ${done.version} (${done.bundles} signed statements)\n  ${done.index}\n${
              done.state === "staged" ? "it waits until somebody else approves it (kernlock registry review)\n" : ""
            }`,
        );
      } finally {
        await registry.close();
      }
      return 0;
    },
  );
}
