import type { ExpertFormat } from "@kernlock/policies/compatibility";

export type { ExpertFormat, ModelFacts } from "@kernlock/policies/compatibility";

/** Rotary embedding. `default` is plain RoPE: the YaRN numbers then change nothing. */
export interface RopeConfig {
  readonly kind: "default" | "yarn";
  readonly theta: number;
  readonly factor: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  /** Round the ends of the ramp to whole dimensions. The released gpt-oss files say false. */
  readonly truncate: boolean;
  readonly originalContext: number;
  /** Factor on cosine and sine; null: 0.1 ln(factor) + 1. */
  readonly attentionFactor: number | null;
}

/** config.json of a gpt-oss checkpoint, checked: every number is finite, positive and consistent with the others. */
export interface ModelConfig {
  readonly architecture: "GptOssForCausalLM";
  readonly layers: number;
  readonly layerTypes: readonly ("full" | "sliding")[];
  /** Keys a query of a sliding layer sees, itself included. */
  readonly slidingWindow: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly topK: number;
  readonly vocab: number;
  readonly normEps: number;
  readonly rope: RopeConfig;
  readonly maxPositions: number;
  /** In no config file: 1.702. */
  readonly swigluAlpha: number;
  readonly swigluLimit: number;
  /** lm_head is the embedding table; `tensors` then holds the same bytes under both names. */
  readonly tied: boolean;
  readonly eosIds: readonly number[];
  readonly bosId: number | null;
  readonly padId: number | null;
  /** What config.json declares. What the files really hold is `Model.expertFormat`. */
  readonly quantization: { readonly method: string; readonly notConverted: readonly string[] } | null;
}

/** Element types as safetensors spells them. */
export type TensorDtype =
  | "BOOL"
  | "U8"
  | "I8"
  | "F8_E4M3"
  | "F8_E5M2"
  | "F8_E8M0"
  | "I16"
  | "U16"
  | "F16"
  | "BF16"
  | "I32"
  | "U32"
  | "F32"
  | "I64"
  | "U64"
  | "F64";

export interface TensorEntry {
  /** Index into `Model.files`. */
  readonly file: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
}

export interface ModelFile {
  /** As it was opened; in a process that got descriptors only, just its name. */
  readonly path: string;
  readonly fd: number;
  readonly size: number;
}

/** generation_config.json. Null: the file does not say. */
export interface GenerationConfig {
  /** Ids that end an answer. From generation_config.json; from config.json where that has none. */
  readonly stopIds: readonly number[];
  readonly doSample: boolean;
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly topK: number | null;
}

/** An open checkpoint: everything is checked, no byte of a weight has been read. */
export interface Model {
  /** Folder name or `organisation/name`. */
  readonly name: string;
  readonly folder: string;
  readonly config: ModelConfig;
  readonly expertFormat: ExpertFormat;
  readonly generation: GenerationConfig;
  /** Weight files first, then tokenizer.json if there is one. Descriptors are read-only and close-on-exec. */
  readonly files: readonly ModelFile[];
  /** By the names that Hugging Face transformers uses: exactly those that the config asks for. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Index into `files`, null without a tokenizer. */
  readonly tokenizerFile: number | null;
  /** Source of the chat template (Jinja). */
  readonly template: string | null;
  /** Variables of the template that name special tokens: `bos_token`, `eos_token`, `pad_token`, … */
  readonly templateTokens: Readonly<Record<string, string>>;
  /** Closes the descriptors. A second call does nothing. */
  close(): void;
}

/** What one process tells another about an open model. Plain JSON; the descriptors travel beside it. */
export interface ModelDescription {
  readonly schema: "kernlock.model/v0";
  readonly name: string;
  readonly config: ModelConfig;
  readonly expertFormat: ExpertFormat;
  readonly generation: GenerationConfig;
  /** In the order in which descriptors must be handed over. */
  readonly files: readonly { readonly name: string; readonly size: number }[];
  readonly tensors: readonly (TensorEntry & { readonly name: string })[];
  readonly tokenizerFile: number | null;
  readonly template: string | null;
  readonly templateTokens: Readonly<Record<string, string>>;
}

/** A message of a conversation, as the chat template sees it. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  /** Anything else the template reads: `thinking`, `name`, `tool_calls`. */
  readonly [key: string]: unknown;
}

export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** Reaches the template only when given. */
  readonly reasoningEffort?: "low" | "medium" | "high" | undefined;
  /** End with the opening of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Further variables for the template: `tools`, `model_identity`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** Part of a prompt: a special token of the template, or text in which nothing is special. */
export interface PromptPiece {
  readonly text: string;
  readonly special: boolean;
}

export interface RenderedPrompt {
  /** For people; tokenize `pieces`, not this. */
  readonly text: string;
  readonly pieces: readonly PromptPiece[];
}

/** Text that became certain with a token. Incomplete UTF-8 is held back. */
export interface DecodeStream {
  push(id: number): string;
  /** What is left, U+FFFD for incomplete bytes. */
  end(): string;
}

export interface Tokenizer {
  /** One more than the largest id. */
  readonly size: number;
  /** Special tokens by their text. */
  readonly specials: ReadonlyMap<string, number>;
  /**
   * Ids of a text; nothing is added before or after it.
   * `special`: whether special tokens written in the text are parsed. If not, no id of the result is special.
   */
  encode(text: string, options: { readonly special: boolean }): number[];
  encodePieces(pieces: readonly PromptPiece[]): number[];
  /** Special tokens are kept; ids without a token give nothing; incomplete UTF-8 gives U+FFFD. */
  decode(ids: Iterable<number>): string;
  decodeStream(): DecodeStream;
}

/** Renders chat templates where they can do no harm: with limits on time, memory and output, and killable. */
export interface TemplateRenderer extends AsyncDisposable {
  /**
   * @throws KL_TEMPLATE_LIMIT too slow, too large; KL_TEMPLATE_ERROR broken, or it refused the messages;
   *         KL_CHAT_MESSAGE a message that no template could take
   */
  render(conversation: Conversation): Promise<RenderedPrompt>;
  close(): Promise<void>;
}

/** What a token of a harmony answer means. */
export type HarmonyEvent =
  /** A message begins. `channel` is null where the header names none. */
  | {
      readonly kind: "begin";
      readonly channel: string | null;
      readonly role: string;
      readonly recipient: string | null;
    }
  /** Text of the message, or (channel null) text that stands in no message. */
  | { readonly kind: "text"; readonly channel: string | null; readonly text: string }
  | { readonly kind: "end"; readonly channel: string | null };

export interface HarmonyMessage {
  readonly role: string;
  readonly channel: string | null;
  /** `to=…` of a tool call. */
  readonly recipient: string | null;
  readonly text: string;
  /** False while its end token has not come. */
  readonly complete: boolean;
}

export interface HarmonyParser {
  push(id: number): HarmonyEvent[];
  /** Call after the last token: gives text that was held back. */
  end(): HarmonyEvent[];
  /** Text per channel, of the channels that occurred. Several messages of one channel are joined by a line feed. */
  readonly channels: Readonly<Record<string, string>>;
  readonly messages: readonly HarmonyMessage[];
}

/** Bytes and parameters of one kind of weight. */
export interface WeightGroup {
  readonly kind: "embedding" | "attention" | "router" | "experts" | "norms" | "lm_head";
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
  /** `BF16`, `MXFP4`. */
  readonly formats: readonly string[];
}

/** What `kernlock inspect` shows; plain JSON. */
export interface Inspection {
  readonly name: string;
  readonly architecture: string;
  readonly config: ModelConfig;
  readonly quantization: {
    /** What config.json declares; null: nothing. */
    readonly declared: string | null;
    readonly notConverted: readonly string[];
    readonly found: ExpertFormat;
    readonly agree: boolean;
    /** One sentence. */
    readonly text: string;
  };
  readonly parameters: { readonly total: number; readonly activePerToken: number };
  readonly bytes: {
    readonly total: number;
    /** Were all experts bf16. */
    readonly dequantized: number;
  };
  readonly weights: readonly WeightGroup[];
  readonly files: readonly { readonly name: string; readonly size: number }[];
  readonly tokenizer: boolean;
  readonly template: boolean;
  readonly generation: GenerationConfig;
}
