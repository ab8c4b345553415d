import type { Signer } from "@kernlock/policies/trust";
import type { Command } from "commander";
import { command } from "../command.ts";
import { usage } from "../errors.ts";
import { environmentSigner, fileSigner } from "../keys/index.ts";
import { publishLayout } from "../publish.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";

interface Options extends RegistryFlags {
  readonly key?: string;
  readonly keyEnv?: string;
}

export function publishCommand(): Command {
  return command<Options>(
    "publish <layout>",
    "sign a layout's statements and publish it; the version becomes visible only if the namespace's policy accepts it",
    (target) =>
      withRegistry(target)
        .option("--key <file>", "publisher's private key (PKCS#8 PEM, ECDSA P-256 or Ed25519)")
        .option("--key-env <name>", "environment variable that holds it"),
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

function signerFrom({ key, keyEnv }: Options): Signer {
  if ((key === undefined) === (keyEnv === undefined)) usage("publish needs exactly one of --key and --key-env.");
  return key === undefined ? environmentSigner(keyEnv ?? "") : fileSigner(key);
}
