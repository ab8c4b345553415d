import type { Layout } from "@kernlock/kernels/abi";
import type { ErrorCode } from "@kernlock/kernels/format";
import type { Misfit } from "./candidates.ts";
import type { ExpertFormat, Mode, Outcome } from "./types.ts";

/** What the planner (or the weight loader, for scales) has found out when it asks the matrix. */
export interface MatrixFacts {
  readonly device: "cpu" | "cuda";
  /** How the device was chosen, and what was there to choose from. */
  readonly deviceAsked: "auto" | "cpu" | "cuda";
  readonly lockedBackends: readonly ("cpu" | "cuda")[];
  readonly driver: boolean;
  readonly platform: { readonly os: string; readonly arch: string };
  /** GPUs that are not NVIDIA's. */
  readonly otherGpus: boolean;
  /** Compute capability of the device times ten; null for a CPU or a device that is not there. */
  readonly capability: number | null;
  /** Why the locked variants that would do the job do not run on this device; null when that is not what is in the way. */
  readonly misfit: Misfit | null;
  /** The same, of MoE kernels that read the experts as they are stored. */
  readonly expertMisfit: Misfit | null;
  readonly mode: Mode;
  /** Modes in which some locked kernel of this device has an op. */
  readonly lockedModes: readonly Mode[];
  readonly experts: ExpertFormat;
  /** The layout the MoE op will read; null before that is decided, or when no MoE op fits. */
  readonly moeLayout: Layout | null;
  readonly allowDequant: boolean;
  readonly policyAllowsDequant: boolean;
  /** Whether every attention op that was offered and not chosen lacks what gpt-oss needs, and none is left. */
  readonly attentionWithoutSinks: boolean;
  /** Whether kernels can be confined here; null where nobody has looked. */
  readonly confinable?: boolean | null;
  readonly confinement?: "required" | "best-effort";
  /** The largest MXFP4 scale byte seen; null before weights are read. */
  readonly largestScale: number | null;
}

export interface MatrixRow {
  readonly id: string;
  /** The condition, for people; `applies` is the same for the planner. */
  readonly when: string;
  readonly applies: (facts: MatrixFacts) => boolean;
  readonly outcome: Outcome;
  /** Of the error, where the outcome is `refuse`. */
  readonly code?: ErrorCode;
  readonly reason: string;
  readonly remedy: string;
  /** Where the rule comes from. */
  readonly source: string;
}

/** E8M0 byte that stands for "not a number". */
export const scaleNaN = 255;
/** From this scale byte on, 6 * 2^(byte - 127) is beyond bf16. */
export const scaleBeyondBf16 = 253;

const gpu = (facts: MatrixFacts): boolean =>
  facts.deviceAsked === "cuda" || (facts.deviceAsked === "auto" && facts.lockedBackends.includes("cuda"));

const dequantizes = (facts: MatrixFacts): boolean => facts.experts === "mxfp4" && facts.moeLayout === "bf16.rows";

/**
 * The compatibility matrix: what no descriptor can say by itself. The first row that applies speaks, so refusals come
 * first. Everything else is derived from the descriptors of the locked kernels.
 */
export const matrix: readonly MatrixRow[] = [
  {
    id: "C1",
    when: "a system without Landlock or without seccomp; the policy does not say `confinement: best-effort`",
    applies: (facts) => facts.confinable === false && facts.confinement !== "best-effort",
    outcome: "refuse",
    code: "KL_CONFINE_UNAVAILABLE",
    reason: "this system cannot confine kernels (Landlock and seccomp), and the policy does not let them run otherwise",
    remedy: "Use Linux 5.13 or newer with both enabled, or say confinement: best-effort in the policy.",
    source: "A signed kernel may still be hostile: docs/security/model.md",
  },
  {
    id: "P1",
    when: "a Mac, Windows outside WSL, or another processor than x86-64",
    applies: ({ platform }) => platform.os !== "linux" || platform.arch !== "x86_64",
    outcome: "refuse",
    code: "KL_PLAN_PLATFORM",
    reason: "kernels are machine code for Linux on x86-64, and this is another system",
    remedy:
      "Run the model on a Linux x86-64 machine (WSL is one); on a Mac itself, llama.cpp or MLX run gpt-oss. " +
      "Locking, verifying and planning for such a machine work here.",
    source: "Packages have variants for linux-x86_64 only",
  },
  {
    id: "D0",
    when: "a GPU is wanted, and the only GPUs are AMD's or Intel's",
    applies: (facts) => gpu(facts) && !facts.driver && facts.otherGpus,
    outcome: "refuse",
    code: "KL_PLAN_NO_DRIVER",
    reason: "the kernels are for NVIDIA GPUs, and the GPUs here are another maker's",
    remedy: "Say --device cpu with CPU kernels in the lock; on an AMD GPU, llama.cpp and vLLM run gpt-oss.",
    source: "Packages have CUDA variants only",
  },
  {
    id: "D1",
    when: "`--device cuda` on a machine without a CUDA driver",
    applies: (facts) => facts.deviceAsked === "cuda" && !facts.driver,
    outcome: "refuse",
    code: "KL_PLAN_NO_DRIVER",
    reason: "a GPU was asked for and there is no driver",
    remedy: "Install the NVIDIA driver, or ask for --device cpu with CPU kernels in the lock.",
    source: "Nothing is substituted in silence; transformers issue 39945, node-llama-cpp issue 577",
  },
  {
    id: "D2",
    when: "`--device auto`, CUDA kernels in the lock, no CUDA driver",
    applies: (facts) => facts.deviceAsked === "auto" && facts.lockedBackends.includes("cuda") && !facts.driver,
    outcome: "refuse",
    code: "KL_PLAN_NO_DRIVER",
    reason:
      "the lock names CUDA kernels and there is no driver; moving to the CPU would be another machine than the lock's",
    remedy: "Install the NVIDIA driver, or say --device cpu.",
    source: "Nothing is substituted in silence; node-llama-cpp issue 577",
  },
  {
    id: "D4",
    when: "`--device cuda:N` and the driver has no device N",
    applies: (facts) => gpu(facts) && facts.driver && facts.capability === null,
    outcome: "refuse",
    code: "KL_PLAN_GPU",
    reason: "the driver has no device of this number",
    remedy: "Run `kernlock doctor`, which lists the devices.",
    source: "Nothing is substituted in silence",
  },
  {
    id: "G4",
    when: "mode `bf16` on a GPU below compute capability 8.0",
    applies: (facts) =>
      facts.device === "cuda" && facts.mode === "bf16" && facts.capability !== null && facts.capability < 80,
    outcome: "refuse",
    code: "KL_PLAN_GPU",
    reason: "GPUs below compute capability 8.0 do not compute in bf16, which the weights are stored in",
    remedy: "Use a GPU from Ampere on (A100, RTX 30 and newer), or --device cpu with CPU kernels in the lock.",
    source: "CUDA C++ Programming Guide, arithmetic by compute capability",
  },
  {
    id: "K2",
    when: "no locked kernel has a variant for the device",
    applies: (facts) => !facts.lockedBackends.includes(facts.device),
    outcome: "refuse",
    code: "KL_PLAN_UNAVAILABLE",
    reason: "the lock holds no kernel for this device",
    remedy: "Add a variant for this device to kernels.json and lock again, or ask for another device.",
    source: "transformers: a kernel without a build for the machine fails only at load (pull request 43512)",
  },
  {
    id: "K3",
    when: "no locked kernel has an op in the mode",
    applies: (facts) => facts.lockedBackends.includes(facts.device) && !facts.lockedModes.includes(facts.mode),
    outcome: "refuse",
    code: "KL_PLAN_UNAVAILABLE",
    reason: "no locked kernel computes in this mode; a machine picks the instruction set inside a mode, never the mode",
    remedy: "Ask for a mode that the locked kernels have, or lock kernels for this one.",
    source: "transformers: an unmapped device or mode runs the original layer without a word (issue 40459)",
  },
  {
    id: "D3",
    when: "the driver is older than the locked kernels need",
    applies: (facts) => facts.misfit === "driver",
    outcome: "refuse",
    code: "KL_PLAN_DRIVER",
    reason: "the driver is older than the locked kernels need",
    remedy: "Update the NVIDIA driver, or lock versions that were built for an older one.",
    source: "Machine code of a newer toolkit needs a driver of its major version (CUDA compatibility)",
  },
  {
    id: "G1",
    when: "the locked CUDA kernels have no machine code for this device's compute capability",
    applies: (facts) => facts.misfit === "architecture",
    outcome: "refuse",
    code: "KL_PLAN_GPU",
    reason: "the locked kernels have no machine code for this device",
    remedy: "Add the variant of this device to kernels.json and lock again, or choose another device.",
    source: "Machine code of sm_90a runs on 9.0 alone, of sm_80 on 8.x (CUDA binary compatibility)",
  },
  {
    id: "G2",
    when: "only PTX fits this device, and the policy does not permit it",
    applies: (facts) => facts.misfit === "ptx",
    outcome: "refuse",
    code: "KL_PLAN_GPU",
    reason: "only PTX fits this device, and what a driver makes of it at load is not what was signed",
    remedy: "Lock a variant with machine code for this device, or have the policy permit PTX (ptx: true in a rule).",
    source: "Kernlock's rule that the loaded bytes are the verified ones",
  },
  {
    id: "G3",
    when: "the variant for this device has not been run on one, and the policy does not permit that",
    applies: (facts) => facts.misfit === "untested",
    outcome: "refuse",
    code: "KL_PLAN_UNTESTED",
    reason: "the locked variant for this device compiles, and nobody has run it on one",
    remedy: "Have the policy permit it (untestedVariants: true in a rule), and run `kernlock selftest` first.",
    source: "`tested` of variant.json",
  },
  {
    id: "A4",
    when: "the only attention kernels have no sinks (or no sliding window, or no paged cache)",
    applies: (facts) => facts.attentionWithoutSinks,
    outcome: "refuse",
    code: "KL_PLAN_UNAVAILABLE",
    reason: "attention without the sinks gives other numbers: a relative error of 0.22 on a small model",
    remedy: "Lock an attention kernel whose descriptor has sinks, sliding_window, paged and varlen, such as fa3-sinks.",
    source: "transformers: a kernel without a sink argument drops it without a word (modeling flash attention glue)",
  },
  {
    id: "S1",
    when: "an MXFP4 scale byte is 255",
    applies: (facts) => facts.experts === "mxfp4" && facts.largestScale === scaleNaN,
    outcome: "refuse",
    code: "KL_MODEL_SCALE",
    reason: "255 is not a number in E8M0, so the weights of that block have no value",
    remedy: "Get the checkpoint again: this file is damaged or was written wrongly.",
    source: "OCP Microscaling Formats (MX) 1.0, section 5.4.1; upstream readers take it for 2^128",
  },
  {
    id: "S2",
    when: "dequantised to bf16, and an MXFP4 scale byte is 253 or 254",
    applies: (facts) => dequantizes(facts) && facts.largestScale !== null && facts.largestScale >= scaleBeyondBf16,
    outcome: "refuse",
    code: "KL_MODEL_SCALE",
    reason: "6 * 2^126 is beyond what bf16 can hold, so dequantising would make infinities",
    remedy: "Use an MoE kernel that reads MXFP4 as it is.",
    source: "OCP Microscaling Formats (MX) 1.0, section 5.3.3, and the exponent range of bf16",
  },
  {
    id: "K1-device",
    when: "as K1, where the lock has an MXFP4 kernel that does not run on this device",
    applies: (facts) => dequantizes(facts) && !facts.allowDequant && facts.expertMisfit !== null,
    outcome: "refuse",
    code: "KL_PLAN_CONFLICT",
    reason: "the locked MXFP4 kernels do not run on this device, and the one that does reads bf16 experts",
    remedy:
      "Lock an MXFP4 variant for this device, choose another device, or dequantise with --allow-dequant where the policy permits.",
    source: "transformers 5.18: a GPU below 7.5 gets bf16 with a warning (quantizer_mxfp4.py)",
  },
  {
    id: "K1",
    when: "MXFP4 experts, an MoE kernel that reads bf16 only, no `--allow-dequant`",
    applies: (facts) => dequantizes(facts) && !facts.allowDequant,
    outcome: "refuse",
    code: "KL_PLAN_CONFLICT",
    reason: "the kernel reads bf16 experts and the checkpoint has MXFP4 ones",
    remedy:
      "Use a kernel that reads MXFP4 (--kernel moe=mxfp4), or dequantise with --allow-dequant where the policy permits.",
    source: "transformers 5.18: use_kernels on MXFP4 dequantises with a warning (quantizer_mxfp4.py)",
  },
  {
    id: "K1-policy",
    when: "as K1, with `--allow-dequant`, and the policy does not permit it",
    applies: (facts) => dequantizes(facts) && facts.allowDequant && !facts.policyAllowsDequant,
    outcome: "refuse",
    code: "KL_PLAN_DEQUANT_FORBIDDEN",
    reason: "a flag may only choose what the policy allows",
    remedy: "Use a kernel that reads MXFP4 (--kernel moe=mxfp4), or have dequantisation allowed in the policy.",
    source: "Kernlock's rule on decisions",
  },
  {
    id: "M14",
    when: "bf16 experts, an MoE kernel that reads MXFP4 only",
    applies: (facts) => facts.experts !== "mxfp4" && (facts.moeLayout?.startsWith("mxfp4.") ?? false),
    outcome: "refuse",
    code: "KL_PLAN_CONFLICT",
    reason: "quantising at load would make another model",
    remedy: "Use an MoE kernel that reads bf16 experts (--kernel moe=megablocks-moe), or the MXFP4 checkpoint.",
    source: "transformers 5.18: quantising at load turns every missing part into an error (quantizer_mxfp4.py)",
  },
  {
    id: "K1-dequant",
    when: "as K1, with `--allow-dequant`, and the policy permits it",
    applies: (facts) => dequantizes(facts) && facts.allowDequant && facts.policyAllowsDequant,
    outcome: "convert",
    reason: "dequantised to bf16, which is exact: flag and policy both allow it",
    remedy: "Leave out --allow-dequant to keep MXFP4; the experts take 3.76 times the memory as bf16.",
    source: "transformers 5.18 does the same with a warning; here it is asked for, priced and recorded",
  },
  {
    id: "B2",
    when: "bf16 experts stored [in, out], an MoE kernel that reads `bf16.rows`",
    applies: (facts) => facts.experts === "bf16.in_out" && facts.moeLayout === "bf16.rows",
    outcome: "convert",
    reason: "transposed once while loading; no number changes",
    remedy: "Nothing to do.",
    source: "transformers' dequantised exports store gate_up_proj and down_proj transposed",
  },
  {
    id: "M1-tiles",
    when: "MXFP4 experts, an MoE kernel that reads `mxfp4.tiles`",
    applies: (facts) => facts.experts === "mxfp4" && facts.moeLayout === "mxfp4.tiles",
    outcome: "convert",
    reason: "the same four-bit codes and scales, put in another order once while loading; no number changes",
    remedy: "Nothing to do.",
    source: "layout mxfp4.tiles of the kernel ABI; the published order of scales costs 13 to 34 % on a Hopper GPU",
  },
  {
    id: "M9",
    when: "MXFP4 experts, an MoE kernel that reads MXFP4, CPU",
    applies: (facts) => facts.experts === "mxfp4" && facts.moeLayout === "mxfp4.rows" && facts.device === "cpu",
    outcome: "native",
    reason: "the four-bit weights are used where they lie in the file",
    remedy: "Nothing to do.",
    source: "transformers 5.18 dequantises on a CPU unless use_kernels is on",
  },
  {
    id: "M1",
    when: "MXFP4 experts, an MoE kernel that reads MXFP4, GPU",
    applies: (facts) => facts.experts === "mxfp4" && facts.moeLayout === "mxfp4.rows" && facts.device === "cuda",
    outcome: "native",
    reason: "the four-bit weights are used as they are",
    remedy: "Nothing to do.",
    source: "transformers 5.18 with triton 3.4 and kernels 0.17",
  },
  {
    id: "B1",
    when: "bf16 experts stored [out, in], an MoE kernel that reads `bf16.rows`",
    applies: (facts) => facts.experts === "bf16.out_in" && facts.moeLayout === "bf16.rows",
    outcome: "native",
    reason: "the bf16 weights are used where they lie in the file",
    remedy: "Nothing to do.",
    source: "layout bf16.rows of the kernel ABI",
  },
];

/** The first row that applies; undefined when nothing has been decided yet that a row speaks about. */
export const speakingRow = (facts: MatrixFacts): MatrixRow | undefined => matrix.find((row) => row.applies(facts));

/** The row that refuses a checkpoint for the largest scale byte in it, given how its experts will be read. */
export function scaleRow(largestScale: number, moeLayout: Layout): MatrixRow | undefined {
  if (largestScale === scaleNaN) return matrix.find((row) => row.id === "S1");
  return moeLayout === "bf16.rows" && largestScale >= scaleBeyondBf16
    ? matrix.find((row) => row.id === "S2")
    : undefined;
}

/** The table of docs/compatibility.md. */
export function renderMatrix(): string {
  const lines = matrix.map((row) => {
    const outcome = row.code === undefined ? row.outcome : `${row.outcome} (\`${row.code}\`)`;
    return `| ${[row.id, row.when, outcome, row.reason, row.remedy, row.source].join(" | ")} |`;
  });
  return ["| row | when | outcome | reason | what to do | source |", "|---|---|---|---|---|---|", ...lines, ""].join(
    "\n",
  );
}
