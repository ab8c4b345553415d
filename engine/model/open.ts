import type { Model } from "./types.ts";

/**
 * Opens a checkpoint by its folder, or by `organisation/name` from the local Hugging Face cache.
 *
 * @throws KL_MODEL_*, KL_JSON_*
 */
export function openModel(
  _folderOrName: string,
  _env: Readonly<Record<string, string | undefined>> = process.env,
): Model {
  throw new Error("not written yet");
}
