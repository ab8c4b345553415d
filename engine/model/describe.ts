import type { Model, ModelDescription } from "./types.ts";

/** Hand over `model.files` in order: `fds[i]` is the descriptor of `description.files[i]`. */
export function describeModel(_model: Model): ModelDescription {
  throw new Error("not written yet");
}

/** Opens no path. @throws KL_MODEL_DESCRIPTION */
export function modelFromDescription(_description: ModelDescription, _fds: readonly number[]): Model {
  throw new Error("not written yet");
}
