import { buildPackage } from "@kernlock/kernels/build";
import type { Command } from "commander";
import { collect, command } from "../command.ts";
import { table } from "../output.ts";

interface Options {
  readonly out: string;
  readonly builder: string;
  readonly revision?: string;
  readonly variant?: readonly string[];
}

export function buildCommand(): Command {
  return command<Options>(
    "build <folder>",
    "compile a kernel package into an OCI layout, with provenance statements for publish to sign",
    (target) =>
      target
        .requiredOption("--out <folder>", "OCI layout to write")
        .requiredOption("--builder <uri>", "who builds; counts only when signed by a key that a policy binds to it")
        .option("--revision <commit>", "revision of the sources (default: what git says of the folder)")
        .option("--variant <key>", "build only this variant; may be repeated", collect),
    async ({ output, options, args }) => {
      const result = await buildPackage({
        packageFolder: args[0] ?? "",
        out: options.out,
        builderId: options.builder,
        ...(options.revision === undefined ? {} : { revision: options.revision }),
        ...(options.variant === undefined ? {} : { variants: options.variant }),
        onProgress: (line) => output.progress(line),
      });
      const variants = result.variants.map(({ variant, manifest }) => ({ variant, manifest }));
      output.result({ name: result.name, version: result.version, index: result.index, variants }, () =>
        table([
          [`${result.name} ${result.version}`, result.index],
          ...variants.map(({ variant, manifest }) => [`  ${variant}`, manifest]),
        ]),
      );
      return 0;
    },
  );
}
