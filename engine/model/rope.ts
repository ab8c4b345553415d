import type { ModelConfig } from "./types.ts";

/** `invFreq`: f32[headDim / 2], angle per position. `scale`: factor on both cosine and sine. */
export function ropeTable(_config: Pick<ModelConfig, "headDim" | "rope">): { invFreq: Float32Array; scale: number } {
  throw new Error("not written yet");
}
