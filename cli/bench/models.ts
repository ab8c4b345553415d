/** The model of a benchmark: a folder, or a shape that is filled with random numbers and lies nowhere. */
import { fillModel, type Model, openModel, type ShapeName, shapes } from "@kernlock/engine/model";
import { memoryFile } from "@kernlock/loader";
import { type Command, Option } from "commander";
import { usage } from "../errors.ts";

export interface ModelFlags {
  readonly model?: string;
  readonly shape?: ShapeName;
  readonly layers?: string;
}

export const withModel = (target: Command): Command =>
  target
    .option("--model <dir>", "folder of a gpt-oss checkpoint, or a name in the local Hugging Face cache")
    .addOption(
      new Option("--shape <name>", "without a folder: random weights in a shape, in memory alone").choices(
        Object.keys(shapes),
      ),
    )
    .option("--layers <n>", "with --shape: fewer layers than it has");

/** The caller closes it. @throws KL_MODEL_*, KL_SEAL_UNAVAILABLE */
export async function benchModel({ model, shape, layers }: ModelFlags, fallback: ShapeName): Promise<Model> {
  if (model !== undefined) {
    if (shape !== undefined || layers !== undefined) usage("--model goes without --shape and --layers.");
    return openModel(model);
  }
  const count = layers === undefined ? undefined : wholeNumber("--layers", layers);
  const options = { shape: shape ?? fallback, seed: 1, ...(count === undefined ? {} : { layers: count }) };
  return fillModel(options, await memoryFile(`kernlock-${options.shape}`));
}

export function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value > 0
    ? value
    : usage(`${name} takes a whole number above 0, not "${text}".`);
}

/** `1,8,32` */
export const wholeNumbers = (name: string, text: string): number[] =>
  text.split(",").map((part) => wholeNumber(name, part.trim()));
