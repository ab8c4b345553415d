import { makeModel, type ShapeName, shapes } from "@kernlock/engine/model";
import { type Command, Option } from "commander";
import { command } from "../command.ts";
import { usage } from "../errors.ts";
import { bytesText } from "../output.ts";

interface Options {
  readonly shape: ShapeName;
  readonly seed: string;
  readonly layers?: string;
}

export function makeModelCommand(): Command {
  return command<Options>(
    "make-model <folder>",
    "write a checkpoint with random weights in a released shape, for tests and benchmarks",
    (target) =>
      target
        .addOption(new Option("--shape <name>", "which shape").choices(Object.keys(shapes)).makeOptionMandatory())
        .option("--seed <n>", "the same seed gives the same bytes", "1")
        .option("--layers <n>", "fewer layers than the shape has"),
    async ({ output, options, args }) => {
      const seed = Number(options.seed);
      if (!Number.isSafeInteger(seed) || seed < 0) usage(`--seed takes a whole number, not "${options.seed}".`);
      const layers = options.layers === undefined ? undefined : Number(options.layers);
      const folder = args[0] ?? "";
      const made = makeModel({
        shape: options.shape,
        seed,
        folder,
        ...(layers === undefined ? {} : { layers }),
        onProgress: (done, total) => output.progress(`${bytesText(done)} of ${bytesText(total)}`),
      });
      output.result({ folder, ...made }, () => `${folder}: ${bytesText(made.bytes)} in ${made.shards} shards\n`);
      return 0;
    },
  );
}
