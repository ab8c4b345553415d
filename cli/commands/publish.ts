import type { Command } from "commander";
import { command } from "../command.ts";
import { usage } from "../errors.ts";
import { type KeyFlags, signerFrom, withKey } from "../keys/flags.ts";
import { publishLayout } from "../publish.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";

interface Options extends RegistryFlags, KeyFlags {}

export function publishCommand(): Command {
  return command<Options>(
    "publish <layout>",
    "sign a layout's statements and publish it; the version becomes visible only if the namespace's policy accepts it",
    (target) => withKey(withRegistry(target)),

    async ({ output, options, args }) => {
      if (options.registry === undefined) usage("publish needs --registry.");
      const registry = registryClient(options, options.registry.replace(/\/+$/, ""));
      try {
        const done = await publishLayout(args[0] ?? "", signerFrom(options), registry, (line) => output.progress(line));
        output.result(
          done,
          () => `published ${done.name} ${done.version} (${done.bundles} signed statements)\n  ${done.index}\n`,
        );
      } finally {
        await registry.close();
      }
      return 0;
    },
  );
}
