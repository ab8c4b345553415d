import type { ModelConfig } from "./types.ts";

/**
 * Inverse frequencies of the rotary embedding, computed in double precision.
 * `invFreq`: f32[headDim / 2], angle per position. `scale`: factor on both cosine and sine.
 *
 * YaRN (arXiv 2309.00071, section 3.2, "NTK-by-parts"): dimensions that turn more than betaFast times within the
 * original context keep their frequency, those that turn less than betaSlow times are slowed by `factor`, and a ramp
 * over the index of the dimension lies between.
 */
export function ropeTable(config: Pick<ModelConfig, "headDim" | "rope">): { invFreq: Float32Array; scale: number } {
  const { headDim, rope } = config;
  const half = headDim / 2;
  const plain = Float64Array.from({ length: half }, (_, i) => rope.theta ** ((-2 * i) / headDim));
  if (rope.kind === "default") return { invFreq: Float32Array.from(plain), scale: 1 };

  // Index of the dimension that turns `turns` times within the original context.
  const indexOf = (turns: number): number =>
    (headDim * Math.log(rope.originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const [fast, slow] = [indexOf(rope.betaFast), indexOf(rope.betaSlow)];
  const low = Math.max(rope.truncate ? Math.floor(fast) : fast, 0);
  const end = Math.min(rope.truncate ? Math.ceil(slow) : slow, headDim - 1);
  const high = end === low ? low + 0.001 : end;

  const invFreq = Float32Array.from(plain, (f, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return f * (1 - ramp + ramp / rope.factor);
  });
  const scale = rope.attentionFactor ?? (rope.factor > 1 ? 0.1 * Math.log(rope.factor) + 1 : 1);
  return { invFreq, scale };
}
