/** Models with recorded answers, run end to end. Error measure: row-wise ||out - ref|| / ||ref|| of the logits. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BatchItem, ChatMessage, Engine, GenerateRequest } from "@kernlock/engine";
import { fail } from "@kernlock/kernels/format";
import { floats, ids, readSafetensors, type Tensor } from "./safetensors.ts";

export interface GoldenResult {
  readonly model: string;
  readonly file: string;
  readonly ok: boolean;
  readonly text: string;
  /** Numbers behind the text. */
  readonly measured: Readonly<Record<string, number>>;
}

/** What each mode must reach (docs/numerics: f32 exactly the recorded tokens; bf16 by medians, since near-ties flip experts). */
const limits = {
  f32: { rows: "worst", error: 1e-4, argmax: 1 },
  bf16: { rows: "median", error: 4e-2, argmax: 0.85 },
} as const;
/** Conversations whose smallest margin between the two best tokens is above this are the same token for token in bf16. */
const decidedMargin = 0.5;

/** Files of recorded answers in a model's folder. */
export const goldenFiles = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => /^reference.*\.safetensors$/.test(name))
    .sort();

/** @throws KL_ENGINE_*, KL_OP_FAILED */
export async function checkGolden(engine: Engine, folder: string, file: string): Promise<GoldenResult> {
  const reference = readSafetensors(join(folder, file));
  const count = [...reference.keys()].filter((name) => name.startsWith("prompt_")).length;
  const conversations = join(folder, "reference.json");
  const exact = engine.plan.mode === "f32";
  return existsSync(conversations)
    ? checkConversations(engine, folder, file, reference, conversations, exact)
    : checkLogits(engine, folder, file, reference, count, exact);
}

async function checkLogits(
  engine: Engine,
  model: string,
  file: string,
  reference: ReadonlyMap<string, Tensor>,
  count: number,
  exact: boolean,
): Promise<GoldenResult> {
  const numbers = Array.from({ length: count }, (_, i) => i);
  const prompts = numbers.map((i) => ids(reference, `prompt_${i}`));
  const forced = values(
    await engine.generateAll(
      prompts.map((tokenIds) => ({
        prompt: { tokenIds },
        maxNewTokens: 0,
        logits: true,
        sampling: { kind: "greedy" },
      })),
    ),
  );
  const greedy = values(
    await engine.generateAll(
      prompts.map((tokenIds, i): GenerateRequest => {
        const maxNewTokens = ids(reference, `greedy_${i}`).length;
        return { prompt: { tokenIds }, maxNewTokens, ignoreEos: true, sampling: { kind: "greedy" } };
      }),
    ),
  );
  const errors: number[] = [];
  let equal = 0;
  for (const i of numbers) {
    const expected = floats(reference, `logits_${i}`);
    const [rows = 0, vocab = 0] = expected.shape;
    const got = forced[i]!.logits!;
    const out = got.data.subarray((got.rows - rows) * vocab, got.rows * vocab);
    for (let row = 0; row < rows; row++) {
      const a = out.subarray(row * vocab, (row + 1) * vocab);
      const b = expected.data.subarray(row * vocab, (row + 1) * vocab);
      errors.push(rowError(a, b));
      if (largest(a) === largest(b)) equal++;
    }
  }
  const sameIds = numbers.filter(
    (i) => greedy[i]!.result.token_ids.join() === ids(reference, `greedy_${i}`).join(),
  ).length;
  const sorted = errors.toSorted((a, b) => a - b);
  const median = sorted.some(Number.isNaN) ? Number.NaN : sorted[sorted.length >> 1]!;
  const worst = sorted.some(Number.isNaN) ? Number.NaN : sorted.at(-1)!;
  const argmax = equal / errors.length;
  const limit = limits[exact ? "f32" : "bf16"];
  const error = limit.rows === "worst" ? worst : median;
  const ok = error <= limit.error && argmax >= limit.argmax && (!exact || sameIds === count);
  return {
    ...{ model, file, ok },
    text:
      `${errors.length} rows: median error ${median.toExponential(2)}, worst ${worst.toExponential(2)}, ` +
      `argmax ${(100 * argmax).toFixed(1)} % equal; greedy tokens of ${sameIds} of ${count} prompts the recorded ones`,
    measured: { rows: errors.length, median, worst, argmax, prompts: count, same_ids: sameIds },
  };
}

interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly reasoning_effort?: "low" | "medium" | "high";
  readonly prompt: string;
  readonly output: string;
}

async function checkConversations(
  engine: Engine,
  model: string,
  file: string,
  reference: ReadonlyMap<string, Tensor>,
  path: string,
  exact: boolean,
): Promise<GoldenResult> {
  const conversations = JSON.parse(readFileSync(path, "utf8")) as Conversation[];
  const requests = conversations.map(({ messages, reasoning_effort }): GenerateRequest => {
    const effort = reasoning_effort === undefined ? {} : { reasoningEffort: reasoning_effort };
    return { prompt: { messages, ...effort }, sampling: { kind: "greedy" } };
  });
  const done = values(await engine.generateAll(requests));
  let wanted = 0;
  let same = 0;
  let all = 0;
  let prompts = 0;
  for (const [i, { prompt, output }] of conversations.entries()) {
    const { result } = done[i]!;
    const equal = result.text === output && result.token_ids.join() === ids(reference, `greedy_${i}`).join();
    const decided = exact || Math.min(...floats(reference, `greedy_margin_${i}`).data) > decidedMargin;
    if (result.prompt === prompt) prompts++;
    if (equal) all++;
    if (!decided) continue;
    wanted++;
    if (equal) same++;
  }
  return {
    ...{ model, file, ok: same === wanted && prompts === conversations.length },
    text: `${same} of ${wanted} decided conversations token for token (${all} of all ${conversations.length}), ${prompts} prompts as recorded`,
    measured: { conversations: conversations.length, decided: wanted, same, all, prompts },
  };
}

function values(items: readonly BatchItem[]) {
  return items.map((item) => {
    if (item.ok) return item.value;
    throw item.error;
  });
}

/** NaN where either holds one, which no limit accepts. */
function rowError(out: Float32Array, ref: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < ref.length; i++) {
    difference += (out[i]! - ref[i]!) ** 2;
    size += ref[i]! ** 2;
  }
  return Math.sqrt(difference / size);
}

function largest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

/** @throws KL_CLI_FILE */
export function demandGolden(folder: string): string[] {
  const files = existsSync(folder) ? goldenFiles(folder) : [];
  if (files.length > 0) return files;
  return fail("KL_CLI_FILE", `${folder} has no recorded answers (reference.safetensors).`, {
    remedy: "Name a folder of golden data, such as models/dictionary or test/golden/tiny-mxfp4.",
  });
}
