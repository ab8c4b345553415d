import { defaultRequest } from "@kernlock/engine";
import { type Mode, type PlanRequest, parsePin } from "@kernlock/policies/compatibility";
import type { Policy } from "@kernlock/policies/trust";
import { type Command, Option } from "commander";
import { collect } from "./command.ts";
import { usage } from "./errors.ts";

/** Flags that reach the planner. */
export interface PlanFlags {
  readonly device?: string;
  readonly mode?: string;
  readonly kernel?: readonly string[];
  readonly allowDequant?: boolean;
  readonly maxContext?: string;
  readonly maxSequences?: string;
  readonly threads?: string;
}

export function withPlanFlags(target: Command): Command {
  return target
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .addOption(new Option("--mode <mode>", "number format of the whole plan").choices(["f32", "bf16"]))
    .option("--kernel <node=name[/path]>", "take this kernel for a node (moe: both halves); may be repeated", collect)
    .option("--allow-dequant", "let MXFP4 experts grow to bf16, where the policy allows it")
    .option("--max-context <n>", "longest sequence, prompt and answer together")
    .option("--max-sequences <n>", "sequences that run at once")
    .option("--threads <n>", "CPU threads");
}

export function planRequest(flags: PlanFlags, policy: Policy, kernelNames: readonly string[]): PlanRequest {
  return defaultRequest({
    device: parseDevice(flags.device ?? "auto"),
    mode: (flags.mode as Mode | undefined) ?? null,
    pins: (flags.kernel ?? []).map((text) => parsePin(text, [...new Set(kernelNames)])),
    allowDequant: flags.allowDequant === true,
    policyAllowsDequant: policy.numerics.allowDequantization,
    maxContext: positive("--max-context", flags.maxContext),
    maxSequences: positive("--max-sequences", flags.maxSequences),
    workers: positive("--threads", flags.threads),
    confinement: confinementEffort(policy),
  });
}

interface ConfinementRule {
  readonly confinement?: "required" | "best-effort";
  readonly above?: ConfinementRule;
}

/** Kernels may run with less than full confinement only where every policy says so. No flag does. */
export function confinementEffort({ confinement, above }: ConfinementRule): "required" | "best-effort" {
  const allowed = confinement === "best-effort" && (above === undefined || confinementEffort(above) === "best-effort");
  return allowed ? "best-effort" : "required";
}

/** @throws a usage error */
export function parseDevice(text: string): PlanRequest["device"] {
  if (text === "auto" || text === "cpu" || text === "cuda") return text;
  const ordinal = /^cuda:(\d{1,3})$/.exec(text)?.[1];
  return ordinal === undefined
    ? usage(`--device is auto, cpu, cuda or cuda:N, not "${text}".`)
    : `cuda:${Number(ordinal)}`;
}

function positive(name: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) && value > 0
    ? value
    : usage(`${name} takes a whole number above 0, not "${text}".`);
}
