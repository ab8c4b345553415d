import type { KernlockError } from "@kernlock/kernels/format";
import type { SealedKernel } from "@kernlock/loader";
import type { KernelFacts, MachineFacts, Plan, PlanRequest } from "@kernlock/policies/compatibility";
import type { Confinement } from "../confine/index.ts";
import type { ChatMessage, Model } from "../model/types.ts";
import type { EarlyHost } from "./early.ts";
import type { Driver, Loading, Routing, Timeline, Watch, Watched } from "./protocol.ts";

export type { ChatMessage } from "../model/types.ts";

/** Exactly one of the three. Special tokens are parsed in `prompt`, never in the contents of `messages`. */
export type Prompt =
  | { readonly messages: readonly ChatMessage[]; readonly reasoningEffort?: "low" | "medium" | "high" }
  | { readonly prompt: string }
  | { readonly tokenIds: readonly number[] };

/** `model`: generation_config decides, also on what `sample` leaves open. Temperature 0 is greedy. */
export type Sampling =
  | { readonly kind: "model" }
  | { readonly kind: "greedy" }
  | {
      readonly kind: "sample";
      readonly temperature?: number;
      readonly topP?: number;
      readonly topK?: number;
    };

export interface GenerateRequest {
  readonly prompt: Prompt;
  /** Default 256. 0 runs the prompt alone (teacher forcing, with `logits`). */
  readonly maxNewTokens?: number;
  readonly ignoreEos?: boolean;
  /** Default `model`. */
  readonly sampling?: Sampling;
  /** Same seed, same tokens, whatever else runs. Default: drawn at random, and reported. */
  readonly seed?: bigint;
  /** Keep a row of logits for every token, prompt and new; `best`: of each row only its largest, in `best`. */
  readonly logits?: boolean | "best";
  /** For comparisons, see `Routing`. Default: every row goes to the experts that its router chooses. */
  readonly routing?: Routing;
}

/** One new token, as it appears. */
export interface TokenEvent {
  readonly id: number;
  /** Natural logarithm, of the unscaled softmax. */
  readonly logprob: number;
  /** Text that became certain with this token; null without a tokenizer. */
  readonly text: string | null;
  /** Harmony channel that the text belongs to; null for markup and outside any channel. */
  readonly channel: string | null;
  /** Part of `text` that is content of that channel (no markup). */
  readonly content: string | null;
}

export interface GenerateOptions {
  readonly onToken?: (event: TokenEvent) => void;
  readonly signal?: AbortSignal;
}

/** One line of the run record: which op ran a node, and why that one. */
export interface RunRecordEntry {
  /** A node of the model, or `weights` for what prepared them. */
  readonly node: string;
  readonly layers: readonly number[];
  readonly bucket: "load" | "decode" | "mixed";
  readonly op: string;
  readonly kernel: string;
  readonly version: string;
  readonly variant: string;
  readonly digest: string;
  readonly signer: string;
  readonly reason: string;
}

/** The object that `kernlock generate --json` prints (design 11.1), keys and all. */
export interface GenerateResult {
  readonly prompt: string | null;
  readonly prompt_token_ids: readonly number[];
  /** New tokens, the stop token included. */
  readonly token_ids: readonly number[];
  readonly logprobs: readonly number[];
  readonly text: string | null;
  readonly channels: Readonly<Record<string, string>>;
  readonly finish_reason: "stop" | "length";
  readonly plan: Plan;
  readonly run_record: readonly RunRecordEntry[];
  /** What held for the process that ran the kernels, as its parent saw it. Null: nothing, which only tests can ask for. */
  readonly confinement: Confinement | null;
  /** The GPU driver that was used; null on a CPU. */
  readonly driver: Driver | null;
  readonly timing: Timing;
}

/** Milliseconds and counts. */
export interface Timing {
  readonly queued_ms: number;
  /** From the first step of this request to its first new token (or to its end, without one). */
  readonly prefill_ms: number;
  readonly decode_ms: number;
  readonly prompt_tokens: number;
  readonly new_tokens: number;
  readonly decode_tokens_per_second: number | null;
}

export interface Generated {
  readonly result: GenerateResult;
  /** f32 [prompt + new tokens, vocab]; row k is computed after token k. Null unless asked for. */
  readonly logits: { readonly rows: number; readonly vocab: number; readonly data: Float32Array } | null;
  /** Of every row the largest logit's id, and by how much it is larger than the second. Null unless asked for. */
  readonly best: { readonly ids: readonly number[]; readonly margins: readonly number[] } | null;
  readonly seed: bigint;
}

export type BatchItem =
  | { readonly ok: true; readonly value: Generated }
  | { readonly ok: false; readonly error: KernlockError };

export interface EngineOptions {
  /** As the loader sealed them. The descriptors may be closed once the engine has started. */
  readonly kernels: readonly SealedKernel[];
  readonly model: Model;
  /** Every locked variant, those that were not sealed too, so that none is passed over in silence. Default: `kernels`. */
  readonly locked?: readonly KernelFacts[];
  /** Default: this machine. */
  readonly machine?: MachineFacts;
  /** What was asked of the planner; see `defaultRequest`. */
  readonly request: PlanRequest;
  /** Loading weights: bytes done of bytes to do. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Run GPU programs launch by launch, each waited for: slow, and a fault names its op. */
  readonly careful?: boolean;
  /** Hand a decoding step to the device before the tokens of the one before it are read. Default yes; no to compare. */
  readonly ahead?: boolean;
  /** How weights are loaded. Default both; less to compare. */
  readonly loading?: Loading;
  /** A host that was started before the plan was made. It is used if it fits the plan; the caller disposes of it in any case. */
  readonly early?: EarlyHost;
  /** Called with the plan before any weight is read. */
  readonly onPlan?: (plan: Plan) => void;
}

export interface Engine extends AsyncDisposable {
  readonly plan: Plan;
  /** Process id of the host. */
  readonly pid: number;
  /** As in the results. */
  readonly confinement: Confinement | null;
  readonly driver: Driver | null;
  /** What each part of the host's start took. */
  readonly timeline: Timeline;
  /** What was gathered about steps since the last call, and the device's memory; from here on, gathers `what`. */
  watch(what: Watch): Promise<Watched>;
  /** Rejects with a KernlockError; requests of concurrent calls run together. */
  generate(request: GenerateRequest, options?: GenerateOptions): Promise<Generated>;
  /** Each request on its own: one that fails leaves the others alone. In order. */
  generateAll(requests: readonly GenerateRequest[]): Promise<BatchItem[]>;
  close(): Promise<void>;
}
