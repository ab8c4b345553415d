/** From a request to a sequence of tokens, and from new tokens to text. */
import { fail } from "@kernlock/kernels/format";
import type { Bucket, Plan } from "@kernlock/policies/compatibility";
import type { WireRequest } from "../client/protocol.ts";
import {
  createHarmonyParser,
  loadTokenizer,
  type Model,
  type RawRenderer,
  type TemplateRenderer,
  type Tokenizer,
  templateRenderer,
} from "../model/index.ts";
import type { Routes } from "./routes.ts";
import type { Sampled } from "./step.ts";

/** A request while it runs. */
export interface Job extends Sampled {
  readonly id: number;
  readonly prompt: string | null;
  readonly stopIds: ReadonlySet<number>;
  readonly logprobs: number[];
  readonly answer: Answer;
  readonly buckets: Set<Bucket>;
  /** Of its logits, only the largest of a row are told. */
  readonly onlyBest: boolean;
  aborted: boolean;
  readonly queuedAt: number;
  startedAt: number | null;
  firstTokenAt: number | null;
}

/** Text and channels of an answer, token by token. */
export interface Answer {
  push(id: number, last: boolean): { text: string | null; channel: string | null; content: string | null };
  readonly text: string | null;
  readonly channels: Readonly<Record<string, string>>;
}

/** What turns text into tokens and back. Made once, from the model's own files. */
export interface Language {
  readonly tokenizer: Tokenizer | null;
  readonly renderer: TemplateRenderer | null;
}

export async function openLanguage(model: Model, templates: RawRenderer): Promise<Language> {
  const tokenizer = loadTokenizer(model);
  const renderer = tokenizer === null || model.template === null ? null : templateRenderer(model, tokenizer, templates);
  return { tokenizer, renderer };
}

/** @throws KL_ENGINE_*, KL_TEMPLATE_*, KL_CHAT_MESSAGE: this request alone is refused */
export async function openJob(
  { model, plan, language, routes }: { model: Model; plan: Plan; language: Language; routes: Routes },
  id: number,
  request: WireRequest,
): Promise<Job> {
  const queuedAt = performance.now();
  const { text, ids } = await promptTokens(model, language, request);
  checkTokens(ids, model.config.vocab);
  const maxNewTokens = roomFor(ids.length, request.maxNewTokens, plan.maxContext);
  // The last new token is not read.
  if (request.routing !== null) routes.open(request.routing, ids.length + Math.max(0, maxNewTokens - 1));
  return {
    id,
    prompt: text,
    tokens: ids,
    promptLength: ids.length,
    maxNewTokens,
    wantLogits: request.logits !== false,
    onlyBest: request.logits === "best",
    routing: request.routing,
    computed: 0,
    finish: maxNewTokens === 0 ? "length" : null,
    tables: null,
    ...samplingOf(model, request),
    seed: BigInt(request.seed),
    stopIds: new Set(request.ignoreEos ? [] : model.generation.stopIds),
    logprobs: [],
    answer: openAnswer(language.tokenizer, ids),
    buckets: new Set(),
    aborted: false,
    queuedAt,
    startedAt: null,
    firstTokenAt: null,
  };
}

async function promptTokens(
  model: Model,
  { tokenizer, renderer }: Language,
  request: WireRequest,
): Promise<{ text: string | null; ids: number[] }> {
  if (request.tokenIds !== null) {
    const ids = [...request.tokenIds];
    return { text: tokenizer?.decode(ids) ?? null, ids };
  }
  if (tokenizer === null) {
    fail("KL_ENGINE_NO_TOKENIZER", `${model.name} has no tokenizer, so it cannot read text.`, {
      remedy: "Give token ids (--token-ids), or put the model's tokenizer.json into its folder.",
    });
  }
  if (request.prompt !== null) {
    return { text: request.prompt, ids: tokenizer.encode(request.prompt, { special: true }) };
  }
  if (renderer === null) {
    fail("KL_TEMPLATE_ABSENT", `${model.name} has no chat template, so it cannot read a conversation.`, {
      remedy: "Give the whole prompt as text (--prompt), or put chat_template.jinja into the model's folder.",
    });
  }
  const { text, pieces } = await renderer.render({
    messages: request.messages ?? [],
    reasoningEffort: request.reasoningEffort ?? undefined,
  });
  return { text, ids: tokenizer.encodePieces(pieces) };
}

function checkTokens(ids: readonly number[], vocab: number): void {
  if (ids.length === 0) {
    fail("KL_ENGINE_PROMPT_EMPTY", "The prompt has no tokens.", { remedy: "Give at least one token of prompt." });
  }
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocab);
  if (wrong < 0) return;
  fail(
    "KL_ENGINE_TOKEN_RANGE",
    `Token ${wrong} of the prompt is ${ids[wrong]}; the vocabulary has ids 0 to ${vocab - 1}.`,
    {
      remedy: "Give ids of this model's own tokenizer.",
      details: { index: wrong, id: ids[wrong], vocab },
    },
  );
}

/** New tokens that may come: as asked, or 256, or what the context still holds. What was asked for is never cut. */
function roomFor(promptTokens: number, asked: number | null, maxContext: number): number {
  const room = maxContext - promptTokens;
  if (asked !== null ? asked <= room : room >= 1) return asked ?? Math.min(256, room);
  const more = asked === null ? "" : ` and may get ${asked} more`;
  return fail("KL_ENGINE_CONTEXT", `The prompt has ${promptTokens} tokens${more}; the context holds ${maxContext}.`, {
    remedy: "Shorten the prompt, ask for fewer new tokens, or start the engine with a longer context (--max-context).",
    details: { prompt_tokens: promptTokens, max_new_tokens: asked, max_context: maxContext },
  });
}

/** Temperature 0 is greedy; 1 and 0 switch top-p and top-k off. */
function samplingOf({ generation }: Model, { sampling }: WireRequest): Pick<Job, "temperature" | "topP" | "topK"> {
  if (sampling === "model" && !generation.doSample) return { temperature: 0, topP: 1, topK: 0 };
  const asked = sampling === "model" ? null : sampling;
  return {
    temperature: asked?.temperature ?? generation.temperature ?? 1,
    topP: asked?.topP ?? generation.topP ?? 1,
    topK: asked?.topK ?? generation.topK ?? 0,
  };
}

function openAnswer(tokenizer: Tokenizer | null, promptIds: readonly number[]): Answer {
  if (tokenizer === null) {
    return { push: () => ({ text: null, channel: null, content: null }), text: null, channels: {} };
  }
  const stream = tokenizer.decodeStream();
  const harmony = createHarmonyParser(tokenizer, promptIds);
  let whole = "";
  return {
    push(id, last) {
      const text = stream.push(id) + (last ? stream.end() : "");
      whole += text;
      const events = [...(harmony?.push(id) ?? []), ...(last ? (harmony?.end() ?? []) : [])];
      const contents = events.filter((event) => event.kind === "text" && event.channel !== null);
      const content = contents.map((event) => (event.kind === "text" ? event.text : "")).join("");
      return { text, channel: contents[0]?.channel ?? null, content: contents.length === 0 ? null : content };
    },
    get text() {
      return whole;
    },
    get channels() {
      return harmony?.channels ?? {};
    },
  };
}
