import type { Model, ModelFacts } from "./types.ts";
import { expectedTensors } from "./weights.ts";

/** What the planner wants to know. */
export function modelFacts(model: Model): ModelFacts {
  const { config } = model;
  let experts = 0;
  let other = 0;
  for (const [name, { kind }] of expectedTensors(config, model.expertFormat)) {
    const { bytes } = model.tensors.get(name)!;
    // The biases are bf16 in every format: they are not what dequantisation would change.
    if (kind === "experts" && !name.endsWith("_bias")) experts += bytes;
    else other += bytes;
  }
  return {
    name: model.name,
    layers: config.layerTypes,
    hidden: config.hidden,
    intermediate: config.intermediate,
    heads: config.heads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    experts: config.experts,
    topK: config.topK,
    vocab: config.vocab,
    slidingWindow: config.slidingWindow,
    maxPositions: config.maxPositions,
    expertFormat: model.expertFormat,
    bytes: { experts, other },
  };
}
