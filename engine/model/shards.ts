import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { isObject, shownValue } from "./fields.ts";
import { type ModelFolder, openFile, readSmall } from "./folder.ts";
import { readHeader } from "./safetensors.ts";
import type { ModelFile, TensorEntry } from "./types.ts";

const single = "model.safetensors";
const indexName = "model.safetensors.index.json";
const maxShards = 1000;

/**
 * Opens the weight files of a folder and reads their headers. Opened files are appended to `files` as they come, so
 * that the caller can close them when something fails.
 *
 * @throws KL_MODEL_FILE, KL_MODEL_INDEX, KL_MODEL_TENSOR_*, and what `readHeader` and `openFile` throw
 */
export function openWeights(folder: ModelFolder, files: ModelFile[]): Map<string, TensorEntry> {
  const whole = openFile(folder, single);
  if (whole !== null) files.push(whole);
  const index = readSmall(folder, indexName, 32 << 20);
  if (whole !== null && index !== null) {
    fail("KL_MODEL_INDEX", `${folder.path} has both ${single} and ${indexName}.`, {
      remedy: "Remove the one that is not the model.",
    });
  }
  if (whole !== null) return readHeader(whole, 0);
  if (index === null) {
    return fail("KL_MODEL_FILE", `${folder.path} has neither ${single} nor ${indexName}.`, {
      remedy: "Give the folder of a Hugging Face checkpoint with safetensors weights.",
    });
  }
  return openShards(folder, parseIndex(index), files);
}

/** Tensor names by the file that is said to hold them. */
function parseIndex(bytes: Uint8Array): Map<string, string> {
  const json = parseStrictJson(bytes, { what: indexName, maxBytes: 32 << 20, allowInexact: true });
  const map = isObject(json) ? json.weight_map : undefined;
  if (!isObject(map)) return fail("KL_MODEL_INDEX", `${indexName} has no weight_map.`);
  for (const file of Object.values(map)) {
    if (typeof file === "string" && /^[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors$/.test(file)) continue;
    fail("KL_MODEL_INDEX_PATH", `${indexName} names ${shownValue(file)}, which is no safetensors file of the folder.`, {
      remedy: "Shards lie beside their index, as model-00001-of-00003.safetensors.",
    });
  }
  return new Map(Object.entries(map as Record<string, string>));
}

function openShards(
  folder: ModelFolder,
  index: ReadonlyMap<string, string>,
  files: ModelFile[],
): Map<string, TensorEntry> {
  const names = [...new Set(index.values())].sort();
  if (names.length > maxShards) fail("KL_MODEL_INDEX", `${indexName} names ${names.length} files.`);
  const tensors = new Map<string, TensorEntry>();
  for (const shard of names) {
    const file = openFile(folder, shard);
    if (file === null) {
      return fail("KL_MODEL_FILE", `${shard}, which ${indexName} names, is missing.`, {
        remedy: "Download the model again.",
      });
    }
    files.push(file);
    for (const [name, entry] of readHeader(file, files.length - 1)) {
      if (tensors.has(name)) duplicate(name, shard);
      if (index.get(name) !== shard) wrongPlace(name, shard, index.get(name));
      tensors.set(name, entry);
    }
  }
  for (const [name, shard] of index) {
    if (tensors.has(name)) continue;
    fail("KL_MODEL_TENSOR_MISSING", `${shard} does not hold the tensor ${name}, though ${indexName} says so.`, {
      remedy: "Download the model again.",
      details: { tensor: name },
    });
  }
  return tensors;
}

function duplicate(name: string, shard: string): never {
  return fail("KL_MODEL_TENSOR_DUPLICATE", `The tensor ${name} is in ${shard} and in a file before it.`, {
    remedy: "Download the model again.",
    details: { tensor: name },
  });
}

function wrongPlace(name: string, shard: string, said: string | undefined): never {
  const where = said === undefined ? "does not name it" : `says ${said}`;
  return fail("KL_MODEL_INDEX", `${shard} holds the tensor ${name}, and ${indexName} ${where}.`, {
    remedy: "Download the model again.",
    details: { tensor: name },
  });
}
