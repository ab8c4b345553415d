import { fstatSync } from "node:fs";
import { basename } from "node:path";
import { fail } from "@kernlock/kernels/format";
import { closer } from "./open.ts";
import type { Model, ModelDescription } from "./types.ts";

/** Hand over the descriptors of `model.files` in order: `fds[i]` is that of `description.files[i]`. */
export function describeModel(model: Model): ModelDescription {
  return {
    schema: "kernlock.model/v0",
    name: model.name,
    config: model.config,
    expertFormat: model.expertFormat,
    generation: model.generation,
    files: model.files.map(({ path, size }) => ({ name: basename(path), size })),
    tensors: [...model.tensors].map(([name, entry]) => ({ name, ...entry })),
    tokenizerFile: model.tokenizerFile,
    template: model.template,
    templateTokens: model.templateTokens,
  };
}

/**
 * The same model in a process that opens no path. The description comes from the parent and is taken at its word; that
 * the descriptors are the files it speaks of is checked by number and size.
 *
 * @throws KL_MODEL_DESCRIPTION
 */
export function modelFromDescription(description: ModelDescription, fds: readonly number[]): Model {
  const { schema, files: described, tensors, ...rest } = description;
  if (schema !== "kernlock.model/v0" || fds.length !== described.length) {
    fail("KL_MODEL_DESCRIPTION", `The model's description has another form, or not ${fds.length} files.`);
  }
  const files = described.map(({ name, size }, i) => {
    const fd = fds[i]!;
    if (fstatSync(fd).size !== size) {
      fail("KL_MODEL_DESCRIPTION", `${name} does not have the ${size} bytes that it had when it was checked.`, {
        remedy: "Leave the model alone while it is being loaded.",
      });
    }
    return { path: name, fd, size };
  });
  return {
    ...rest,
    folder: "",
    files,
    tensors: new Map(tensors.map(({ name, ...entry }) => [name, entry])),
    close: closer(files),
  };
}
