import { closeSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import { parseConfig } from "./config.ts";
import { locateModel, type ModelFolder, openFile, readSmall } from "./folder.ts";
import { parseGeneration } from "./generation.ts";
import { openWeights } from "./shards.ts";
import { readTemplate } from "./template-source.ts";
import type { Model, ModelFile, TensorEntry } from "./types.ts";
import { checkTensors, detectExperts, expectedTensors } from "./weights.ts";

const maxTokenizer = 128 << 20;

/**
 * Opens a checkpoint by its folder, or by `organisation/name` (`@revision`) from the local Hugging Face cache.
 * Config, headers and tensor table are checked as a whole; no byte of a weight is read, no tokenizer is built.
 *
 * @throws KL_MODEL_*, KL_TEMPLATE_LIMIT, KL_JSON_*
 */
export function openModel(
  folderOrName: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Model {
  const folder = locateModel(folderOrName, env);
  const files: ModelFile[] = [];
  try {
    return open(folder, files);
  } catch (error) {
    for (const file of files) closeSync(file.fd);
    throw error;
  }
}

function open(folder: ModelFolder, files: ModelFile[]): Model {
  const configBytes = readSmall(folder, "config.json", 1 << 20);
  if (configBytes === null) {
    return fail("KL_MODEL_FILE", `${folder.path} has no config.json.`, {
      remedy: "Give the folder of a Hugging Face checkpoint.",
    });
  }
  const config = parseConfig(configBytes);
  const generation = parseGeneration(readSmall(folder, "generation_config.json", 1 << 20), config);
  const { template, templateTokens } = readTemplate(folder);

  const found = openWeights(folder, files);
  const expertFormat = detectExperts(found, config);
  checkTensors(found, expectedTensors(config, expertFormat));

  const tokenizer = openFile(folder, "tokenizer.json");
  if (tokenizer !== null) {
    files.push(tokenizer);
    if (tokenizer.size > maxTokenizer) fail("KL_MODEL_FILE", `${tokenizer.path} is larger than ${maxTokenizer} bytes.`);
  }
  return {
    name: folder.name,
    folder: folder.path,
    config,
    expertFormat,
    generation,
    files,
    tensors: config.tied ? withTiedHead(found) : found,
    tokenizerFile: tokenizer === null ? null : files.length - 1,
    template,
    templateTokens,
    close: closer(files),
  };
}

function withTiedHead(tensors: ReadonlyMap<string, TensorEntry>): Map<string, TensorEntry> {
  return new Map([...tensors, ["lm_head.weight", tensors.get("model.embed_tokens.weight")!]]);
}

/** Closes every descriptor once. */
export function closer(files: readonly ModelFile[]): () => void {
  let open = true;
  return () => {
    if (!open) return;
    open = false;
    for (const file of files) closeSync(file.fd);
  };
}
