import type { ChatMessage, GenerateRequest, Prompt, Sampling } from "@kernlock/engine";
import { fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { usage } from "./errors.ts";

/** Flags of `kernlock generate`, as the command line gives them. */
export interface GenerateFlags {
  readonly prompt?: string;
  readonly chat?: string;
  readonly tokenIds?: string;
  readonly requests?: string;
  readonly reasoning?: string;
  readonly maxNewTokens?: string;
  readonly ignoreEos?: boolean;
  readonly greedy?: boolean;
  readonly temperature?: string;
  readonly topP?: string;
  readonly topK?: string;
  readonly seed?: string;
}

const efforts = ["low", "medium", "high"] as const;
type Effort = (typeof efforts)[number];

const limits = z.object({
  max_new_tokens: z.int().min(0).max(10_000_000).optional(),
  ignore_eos: z.boolean().optional(),
  reasoning_effort: z.enum(efforts).optional(),
  greedy: z.boolean().optional(),
  temperature: z.number().min(0).max(1000).optional(),
  top_p: z.number().gt(0).max(1).optional(),
  top_k: z.int().min(0).max(0x7fff_ffff).optional(),
  seed: z.int().min(0).optional(),
});

const message = z.looseObject({ role: z.string().min(1).max(64), content: z.string() });

/** A line of `--requests`: one prompt, and the flags in snake_case. */
const line = limits
  .extend({
    messages: z.array(message).min(1).optional(),
    prompt: z.string().optional(),
    // Range is the engine's to judge (KL_TOKEN_RANGE); here they need only be whole numbers.
    token_ids: z.array(z.int()).optional(),
  })
  .strict();

type Settings = z.infer<typeof limits>;

/** The one request that `--prompt`, `--chat` or `--token-ids` names, and the settings that flags give to all. */
export function requestFromFlags(
  flags: GenerateFlags,
  logits: boolean,
): GenerateRequest | { readonly file: string; readonly defaults: Settings } {
  const sources = [flags.prompt, flags.chat, flags.tokenIds, flags.requests].filter((value) => value !== undefined);
  if (sources.length !== 1) usage("Give exactly one of --prompt, --chat, --token-ids and --requests.");
  const settings = settingsFromFlags(flags);
  if (flags.requests !== undefined) return { file: flags.requests, defaults: settings };
  return build(promptFromFlags(flags, settings.reasoning_effort), settings, logits);
}

function promptFromFlags(flags: GenerateFlags, effort: Effort | undefined): Prompt {
  if (flags.chat !== undefined) return chat([{ role: "user", content: flags.chat }], effort);
  if (effort !== undefined) usage("--reasoning goes with --chat or --requests: only a chat template knows it.");
  if (flags.prompt !== undefined) return { prompt: flags.prompt };
  const ids = (flags.tokenIds ?? "").split(",").map((text) => text.trim());
  if (ids.length === 1 && ids[0] === "") return { tokenIds: [] };
  return {
    tokenIds: ids.map((text) => {
      if (!/^-?\d{1,15}$/.test(text))
        usage(`--token-ids takes whole numbers with commas between them; "${text.slice(0, 40)}" is none.`);
      return Number(text);
    }),
  };
}

function settingsFromFlags(flags: GenerateFlags): Settings {
  const number = (name: string, text: string | undefined): number | undefined => {
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) usage(`${name} takes a number, not "${text.slice(0, 40)}".`);
    return value;
  };
  const given = {
    max_new_tokens: number("--max-new-tokens", flags.maxNewTokens),
    ignore_eos: flags.ignoreEos,
    reasoning_effort: flags.reasoning,
    greedy: flags.greedy,
    temperature: number("--temperature", flags.temperature),
    top_p: number("--top-p", flags.topP),
    top_k: number("--top-k", flags.topK),
    seed: number("--seed", flags.seed),
  };
  const parsed = limits.safeParse(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    usage(
      `--${String(issue?.path[0] ?? "")
        .replaceAll("_", "-")
        .replace("reasoning-effort", "reasoning")}: ${issue?.message ?? "not valid"}`,
    );
  }
  const conflict = samplingConflict(parsed.data);
  if (conflict !== null) usage(conflict);
  return parsed.data;
}

function samplingConflict(settings: Settings): string | null {
  const sampling = (["temperature", "top_p", "top_k", "seed"] as const).filter((name) => settings[name] !== undefined);
  return settings.greedy === true && sampling.length > 0
    ? `greedy and ${sampling.join(", ")} exclude each other`
    : null;
}

function chat(messages: readonly ChatMessage[], effort: Effort | undefined): Prompt {
  return effort === undefined ? { messages } : { messages, reasoningEffort: effort };
}

function sampling(settings: Settings): Sampling {
  if (settings.greedy === true) return { kind: "greedy" };
  const { temperature, top_p: topP, top_k: topK } = settings;
  if (temperature === undefined && topP === undefined && topK === undefined) return { kind: "model" };
  return {
    kind: "sample",
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(topK === undefined ? {} : { topK }),
  };
}

function build(prompt: Prompt, settings: Settings, logits: boolean): GenerateRequest {
  return {
    prompt,
    sampling: sampling(settings),
    ...(settings.max_new_tokens === undefined ? {} : { maxNewTokens: settings.max_new_tokens }),
    ...(settings.ignore_eos === undefined ? {} : { ignoreEos: settings.ignore_eos }),
    ...(settings.seed === undefined ? {} : { seed: BigInt(settings.seed) }),
    logits,
  };
}

/** Requests of a JSON-lines file, each on its own: a bad line is an error in its place. Empty lines do not count. */
export function requestsFromFile(
  text: string,
  defaults: Settings,
  logits: boolean,
): (GenerateRequest | KernlockError)[] {
  return text
    .split("\n")
    .map((content, index) => ({ content: content.trim(), number: index + 1 }))
    .filter(({ content }) => content !== "")
    .map(({ content, number }) => {
      try {
        return requestFromLine(content, number, defaults, logits);
      } catch (error) {
        if (error instanceof KernlockError) return error;
        throw error;
      }
    });
}

function requestFromLine(text: string, number: number, defaults: Settings, logits: boolean): GenerateRequest {
  const parsed = line.safeParse(parseStrictJson(text, { what: `line ${number}` }));
  const remedy = "A line has one of messages, prompt and token_ids, and the flags in snake_case.";
  const refuse = (reason: string): never =>
    fail("KL_REQUEST_LINE", `line ${number} is not a request: ${reason}`, { remedy });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return refuse(`${issue?.path.join(".") || "the line"}: ${issue?.message ?? "not valid"}`);
  }
  const { messages, prompt, token_ids: tokenIds, ...own } = parsed.data;
  // A line that says how to sample says all of it: a default must not turn its `greedy` into a conflict.
  const sampled = ["greedy", "temperature", "top_p", "top_k", "seed"] as const;
  const inherited = sampled.some((name) => own[name] !== undefined)
    ? Object.fromEntries(
        Object.entries(defaults).filter(([name]) => !sampled.includes(name as (typeof sampled)[number])),
      )
    : defaults;
  const settings: Settings = { ...inherited, ...own };
  const conflict = samplingConflict(settings);
  if (conflict !== null) refuse(conflict);
  const given = [messages, prompt, tokenIds].filter((value) => value !== undefined);
  if (given.length !== 1) refuse("it must have exactly one of messages, prompt and token_ids");
  const effort = settings.reasoning_effort;
  if (messages !== undefined) return build(chat(messages, effort), settings, logits);
  if (own.reasoning_effort !== undefined) refuse("reasoning_effort goes with messages");
  if (prompt !== undefined) return build({ prompt }, settings, logits);
  return build({ tokenIds: tokenIds ?? [] }, settings, logits);
}
