import type { Layout, OpName } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import type { Candidate } from "./candidates.ts";
import type { MatrixRow } from "./matrix.ts";
import { expertBytes } from "./sizes.ts";
import type { Conversion, KernelFacts, ModelFacts } from "./types.ts";

/** Where an op comes from, as plans and records state it. */
export function origin(kernel: KernelFacts) {
  return {
    kernel: kernel.name,
    version: kernel.version,
    variant: kernel.descriptor.variant,
    digest: kernel.digest,
    signer: kernel.signers.join(", "),
  };
}

const experts = "model.layers.N.mlp.experts.{gate_up_proj,down_proj}";

/** Every weight that is not used as it lies in the file, and the op that changes it. */
export function plannedConversions(facts: {
  readonly model: ModelFacts;
  readonly candidates: readonly Candidate[];
  readonly expertLayout: Layout;
  /** What the matrix said about the experts. */
  readonly row: MatrixRow;
}): Conversion[] {
  const { model, candidates, expertLayout, row } = facts;
  const by = (name: OpName) => {
    const able = candidates.filter(({ op }) => op.name === name);
    const found = able.find(({ ptx }) => ptx === null) ?? able[0];
    if (found === undefined) {
      fail("KL_PLAN_UNAVAILABLE", `No locked kernel has the op ${name}, which loading this model needs.`, {
        remedy: "Lock a kernel that has it, such as transformer-core or mxfp4.",
        details: { op: name },
      });
    }
    return { op: `${name}/${found.op.path}`, ...origin(found.kernel) };
  };
  const qkvRows = (model.heads + 2 * model.kvHeads) * model.headDim;
  const list: Conversion[] = [
    {
      kind: "pack",
      tensors: "model.layers.N.self_attn.{q,k,v}_proj.{weight,bias}",
      from: "bf16, three matrices",
      to: "bf16.rows, one matrix",
      bytes: model.layers.length * qkvRows * (model.hidden + 1) * 2,
      ...by("copy_rows"),
      reason: { code: "one_matrix", text: "the op reads q, k and v as one matrix", row: null },
    },
  ];
  const converted = { tensors: experts, bytes: expertBytes(model, expertLayout), to: expertLayout };
  const reason = { text: row.reason, row: row.id };
  if (model.expertFormat === "mxfp4" && expertLayout === "bf16.rows") {
    const op = by("mxfp4_dequantize");
    list.push({
      kind: "dequantize",
      from: "mxfp4.rows",
      ...converted,
      ...op,
      reason: { code: "dequantized", ...reason },
    });
  }
  if (model.expertFormat === "mxfp4" && expertLayout === "mxfp4.tiles") {
    const op = by("mxfp4_tiles");
    list.push({ kind: "tile", from: "mxfp4.rows", ...converted, ...op, reason: { code: "tiled", ...reason } });
  }
  if (model.expertFormat === "bf16.in_out") {
    const op = by("transpose_experts");
    const from = "bf16 [expert, in, out]";
    list.push({ kind: "transpose", from, ...converted, ...op, reason: { code: "transposed", ...reason } });
  }
  return list;
}
