/** Requests, checked and completed before they go to the host; results, put together from what it says. */
import { randomBytes } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import type { Conversion, Plan, PlannedOp } from "@kernlock/policies/compatibility";
import type { Confinement } from "../confine/index.ts";
import type { Driver, Finished, Routing, WireRequest } from "./protocol.ts";
import type { GenerateRequest, GenerateResult, RunRecordEntry, Sampling } from "./types.ts";

/** @throws KL_ENGINE_REQUEST */
export function toWire(request: GenerateRequest): WireRequest {
  const { prompt, maxNewTokens, ignoreEos, sampling, seed, logits, routing } = request;
  if (["messages", "prompt", "tokenIds"].filter((kind) => kind in prompt).length !== 1) {
    fail("KL_ENGINE_REQUEST", "A request has exactly one of messages, prompt and tokenIds.");
  }
  return {
    messages: "messages" in prompt ? prompt.messages : null,
    reasoningEffort: "messages" in prompt ? (prompt.reasoningEffort ?? null) : null,
    prompt: "prompt" in prompt ? prompt.prompt : null,
    tokenIds: "tokenIds" in prompt ? prompt.tokenIds : null,
    maxNewTokens: maxNewTokens === undefined ? null : within("maxNewTokens", maxNewTokens, 0, 2 ** 31 - 1, true),
    ignoreEos: ignoreEos ?? false,
    sampling: samplingToWire(sampling ?? { kind: "model" }),
    seed: seedOf(seed).toString(),
    logits: logits ?? false,
    routing: routing === undefined ? null : routingToWire(routing),
  };
}

function samplingToWire(sampling: Sampling): WireRequest["sampling"] {
  switch (sampling.kind) {
    case "model":
      return "model";
    case "greedy":
      return { temperature: 0, topP: 1, topK: 0 };
    case "sample":
      return {
        temperature: optional("temperature", sampling.temperature, 0, 100, false),
        topP: optional("topP", sampling.topP, 0, 1, false),
        topK: optional("topK", sampling.topK, 0, 2 ** 31 - 1, true),
      };
  }
}

function routingToWire({ kind, name }: Routing): Routing {
  if ((kind === "keep" || kind === "follow") && typeof name === "string") return { kind, name };
  return fail("KL_ENGINE_REQUEST", `routing has the kind "${kind}"; it has to be keep or follow, with a name.`);
}

function within(name: string, value: number, min: number, max: number, whole: boolean): number {
  if (Number.isFinite(value) && value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
  return fail(
    "KL_ENGINE_REQUEST",
    `${name} is ${value}; it has to be ${whole ? "a whole number" : ""} from ${min} to ${max}.`,
  );
}

const optional = (name: string, value: number | undefined, min: number, max: number, whole: boolean): number | null =>
  value === undefined ? null : within(name, value, min, max, whole);

function seedOf(seed: bigint | undefined): bigint {
  if (seed === undefined) return randomBytes(8).readBigUInt64LE();
  if (BigInt.asUintN(64, seed) === seed) return seed;
  return fail("KL_ENGINE_REQUEST", `The seed ${seed} is not a whole number from 0 to 2^64 - 1.`);
}

export function toResult(
  done: Finished,
  plan: Plan,
  confinement: Confinement | null,
  driver: Driver | null,
): GenerateResult {
  const perSecond = done.tokenIds.length > 1 && done.decodeMs > 0;
  return {
    prompt: done.prompt,
    prompt_token_ids: done.promptTokenIds,
    token_ids: done.tokenIds,
    logprobs: done.logprobs,
    text: done.text,
    channels: done.channels,
    finish_reason: done.finishReason,
    plan,
    run_record: runRecord(plan, done.buckets),
    ...{ confinement, driver },
    timing: {
      queued_ms: done.queuedMs,
      prefill_ms: done.prefillMs,
      decode_ms: done.decodeMs,
      prompt_tokens: done.promptTokenIds.length,
      new_tokens: done.tokenIds.length,
      decode_tokens_per_second: perSecond ? ((done.tokenIds.length - 1) * 1000) / done.decodeMs : null,
    },
  };
}

/** What prepared the weights, then one entry for every node of every kind of step that ran. */
export function runRecord(plan: Plan, buckets: readonly PlannedOp["bucket"][]): RunRecordEntry[] {
  const origin = ({ op, kernel, version, variant, digest, signer, reason }: PlannedOp | Conversion) => ({
    ...{ op, kernel, version, variant, digest, signer },
    reason: `${reason.code}: ${reason.text}`,
  });
  const layers = [...new Set(plan.ops.flatMap((op) => op.layers))].sort((a, b) => a - b);
  const loaded = plan.conversions.map((one) => ({ node: "weights", layers, bucket: "load" as const, ...origin(one) }));
  const ran = plan.ops
    .filter(({ bucket }) => buckets.includes(bucket))
    .flatMap((op) => op.covers.map((node) => ({ node, layers: op.layers, bucket: op.bucket, ...origin(op) })));
  return [...loaded, ...ran];
}
