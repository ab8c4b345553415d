/** A model whose weights are in no folder: for benchmarks, which need every byte of its memory and none of its sense. */
import { fstatSync } from "node:fs";
import { parseConfig } from "./config.ts";
import { randomStream, type ShapeName, shapeConfig, shapes, shapeValues, write } from "./make.ts";
import { closer } from "./open.ts";
import type { Model, TensorEntry } from "./types.ts";
import { expectedTensors } from "./weights.ts";

export interface FillOptions {
  readonly shape: ShapeName;
  readonly seed: number;
  readonly layers?: number;
}

/** Random bytes that are repeated; no row of a matrix is as long as what divides this. */
const patternBytes = (8 << 20) + 4096 + 64;
/** Tensors of a kind begin so far from each other, so that no two hold the same rows. */
const stride = 4096;

const kindOf = (name: string): string =>
  /norm\.weight$/.test(name) ? "norm.weight" : (/(sinks|_blocks|_scales)$/.exec(name)?.[0] ?? "weight");

/**
 * Fills an empty file, best one in memory, with as many random numbers as the largest tensor of each kind needs, and
 * gives out a model whose tensors all lie in it, shifted and overlapping: 1.5 GB stand for the 20b shape and 2.3 GB for
 * 120b. A GPU gets its own copy of each tensor, as with any model; a CPU uses the bytes where they are, and its caches may
 * then hold more than they would. The model closes the descriptor.
 *
 * @throws KL_MODEL_MAKE
 */
export function fillModel({ shape, seed, layers }: FillOptions, fd: number): Model {
  const config = parseConfig(JSON.stringify(shapeConfig({ shape, layers: layers ?? shapes[shape].layers })));
  const sized = [...expectedTensors(config, "mxfp4")].map(([name, { dtype, shape: dims }]) => ({
    ...{ name, dtype, shape: dims, kind: kindOf(name) },
    bytes: dims.reduce((a, b) => a * b, dtype === "U8" ? 1 : 2),
  }));
  const random = randomStream(seed);
  const tensors = new Map<string, TensorEntry>();
  let begin = 0;
  for (const kind of new Set(sized.map((one) => one.kind))) {
    const group = sized.filter((one) => one.kind === kind);
    const length = Math.max(...group.map(({ bytes }) => bytes)) + group.length * stride;
    const pattern = random(Math.min(patternBytes, length + (length % 2)));
    shapeValues({ name: group[0]!.name, dtype: group[0]!.dtype }, pattern);
    for (let at = 0; at < length; at += pattern.length) write(fd, pattern.subarray(0, length - at));
    for (const [i, { name, dtype, shape: dims, bytes }] of group.entries()) {
      tensors.set(name, { file: 0, offset: begin + i * stride, bytes, dtype, shape: dims });
    }
    begin += length;
  }
  const files = [{ path: `${shape} (random)`, fd, size: fstatSync(fd).size }];
  return {
    name: shape,
    folder: "",
    config,
    expertFormat: "mxfp4",
    generation: { stopIds: [], doSample: false, temperature: null, topP: null, topK: null },
    files,
    tensors,
    tokenizerFile: null,
    template: null,
    templateTokens: {},
    close: closer(files),
  };
}
