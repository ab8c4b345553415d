/** Every op in double precision, by name: the oracle of tests and of a self-test on the user's machine. */
import { layouts, type OpName } from "../abi/ops.ts";
import * as attention from "../fa3-sinks/reference.ts";
import * as norm from "../liger-rmsnorm/reference.ts";
import * as bf16 from "../megablocks-moe/reference.ts";
import * as mxfp4 from "../mxfp4/reference.ts";
import * as core from "../transformer-core/reference.ts";
import type { Reference, ReferenceArgs } from "./types.ts";

/** Experts as their layout says; of the tiled layout the reference is that of the rows it was made from. */
function experts({ layout }: Pick<ReferenceArgs<"moe">, "layout">): typeof bf16 | typeof mxfp4 {
  if (layout === layouts["bf16.rows"]) return bf16;
  if (layout === layouts["mxfp4.rows"]) return mxfp4;
  throw new Error(`The references do not read weight layout ${layout}.`);
}

export const references: { readonly [N in OpName]: Reference<N> } = {
  embed: core.embed,
  rmsnorm: norm.rmsnorm,
  qkv_rope_kv: core.qkvRopeKv,
  attn_prefill: attention.attnPrefill,
  attn_decode: attention.attnDecode,
  o_proj: core.oProj,
  o_proj_residual: core.oProjResidual,
  residual: core.residual,
  router: core.router,
  moe: (args) => experts(args).moe(args),
  moe_residual: (args) => experts(args).moeResidual(args),
  lm_head: core.lmHead,
  sample: core.sample,
  copy_rows: core.copyRows,
  transpose_experts: bf16.transposeExperts,
  mxfp4_dequantize: mxfp4.dequantize,
  norm_qkv_rope_kv: (args) => core.qkvRopeKv({ ...args, x: normed(args) }),
  norm_router: (args) => {
    const out = normed(args);
    return { normed: out, ...core.router({ ...args, x: out }) };
  },
  mxfp4_tiles: mxfp4.tiles,
};

const normed = (args: Omit<ReferenceArgs<"rmsnorm">, "weight"> & { readonly norm_weight: ArrayLike<number> }) =>
  norm.rmsnorm({ ...args, weight: args.norm_weight }).out;

export { bf16Values, fromBf16, roundBf16, toBf16 } from "./numbers.ts";
export { philox4x32, uniform } from "./philox.ts";
export type { Reference, ReferenceArgs, ReferenceResult } from "./types.ts";
