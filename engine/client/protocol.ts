/**
 * What the caller's process and the engine host say to each other, over one descriptor that both inherit.
 *
 * A frame is two u32 (bytes of JSON, bytes of the tail), the JSON, the tail. Only `logits` has a tail. The host runs
 * kernels, so nothing it says is believed before it is parsed.
 */
import { fail, KernlockError, type Variant } from "@kernlock/kernels/format";
import type { Mode, ModelFacts, Plan } from "@kernlock/policies/compatibility";
import { z } from "zod";
import type { ChatMessage, ModelDescription } from "../model/types.ts";

/** The host's end of the channel, then where it reports refused calls, then where open files are handed over. */
export const channelFd = 3;
export const alarmFd = 4;
export const handoverFd = 5;

export interface HostedKernel {
  readonly name: string;
  readonly version: string;
  /** Manifest digest of the variant. */
  readonly digest: string;
  readonly variant: Variant;
  /** Sealed payload files, by their positions among the descriptors that are handed over; in the host its own numbers. */
  readonly files: readonly { readonly path: string; readonly fd: number }[];
}

/**
 * Rounding decides between experts whose scores are nearly equal, and a sequence that takes another one is no longer
 * comparable. `keep`: the host keeps, under a name, which experts each token of the sequence went to. `follow`: tokens go
 * where those of that name went, and what their own router chose is only held against it. Steps run in pieces then.
 */
export interface Routing {
  readonly kind: "keep" | "follow";
  readonly name: string;
}

/** `GenerateRequest` with every default filled in that does not need the model. */
export interface WireRequest {
  readonly messages: readonly ChatMessage[] | null;
  readonly reasoningEffort: "low" | "medium" | "high" | null;
  readonly prompt: string | null;
  readonly tokenIds: readonly number[] | null;
  /** Null: 256, or what still fits into the context. */
  readonly maxNewTokens: number | null;
  readonly ignoreEos: boolean;
  /** Null inside: what generation_config says, else off. */
  readonly sampling:
    | "model"
    | { readonly temperature: number | null; readonly topP: number | null; readonly topK: number | null };
  /** Decimal digits of a u64. */
  readonly seed: string;
  /** `best`: of every row only the largest logit, its id, and the second largest. */
  readonly logits: boolean | "best";
  readonly routing: Routing | null;
}

/** How weights are brought to a device; both true but for comparison. */
export interface Loading {
  /** One reservation for all that stays. */
  readonly reserve: boolean;
  /** Reading, copying and preparing at the same time. */
  readonly overlap: boolean;
  /** What of the way from the files to a GPU is other than usual. */
  readonly ring?: Partial<Ring>;
}

/** Memory that weights pass through, and who reads them into it. */
export interface Ring {
  readonly slots: number;
  /** Bytes that are copied and prepared as one piece. */
  readonly slotBytes: number;
  /** Threads, each of which reads so many bytes at a time. */
  readonly readers: number;
  readonly partBytes: number;
}

/**
 * What is gathered about steps while they run. Counting experts runs them in pieces, and timing stages runs the first step of
 * each kind many times over, so both take their time.
 */
export type Watch = "nothing" | "times" | "experts" | "stages";

export type ToHost =
  /** Before any other: open a GPU while the plan is still to be made. No kernel and no weight is known yet. */
  | { readonly type: "prepare"; readonly device: `cuda:${number}` }
  | {
      readonly type: "start";
      /** How many descriptors have been handed over: of model files and kernels. */
      readonly descriptors: number;
      readonly plan: Plan;
      readonly model: ModelDescription;
      /** As for the kernels' files. */
      readonly modelFds: readonly number[];
      readonly kernels: readonly HostedKernel[];
      /** Whether the driver compiles PTX: only where the policy permits it and no machine code of a kernel fits. */
      readonly compilePtx: boolean;
      /** Run GPU programs launch by launch, so that a fault names its op. */
      readonly careful: boolean;
      /** Hand a step to the device before the tokens of the one before it are read. */
      readonly ahead: boolean;
      readonly loading: Loading;
    }
  /** Instead of `start`: try every op of the kernels. */
  | {
      readonly type: "selftest";
      readonly descriptors: number;
      readonly device: Plan["device"];
      readonly workers: number;
      readonly kernels: readonly HostedKernel[];
      readonly compilePtx: boolean;
      readonly seed: number;
    }
  /** Instead of `start`: time every op of the kernels. */
  | {
      readonly type: "bench";
      readonly descriptors: number;
      readonly device: Plan["device"];
      readonly workers: number;
      readonly kernels: readonly HostedKernel[];
      readonly compilePtx: boolean;
      readonly shape: BenchShape;
      readonly mode: Mode;
      readonly tokens: readonly number[];
      readonly context: number;
      /** Names of ops; null: all. */
      readonly only: readonly string[] | null;
      readonly quick: boolean;
      readonly seed: number;
    }
  /** Answered with what was gathered since the last one; from here on, gathers what is named. */
  | { readonly type: "watch"; readonly what: Watch }
  | { readonly type: "generate"; readonly id: number; readonly request: WireRequest }
  | { readonly type: "abort"; readonly id: number }
  | { readonly type: "rendered"; readonly id: number; readonly text: string }
  | { readonly type: "unrendered"; readonly id: number; readonly error: WireError };

/** What makes a host do its work, once. */
export type Begin = Extract<ToHost, { type: "start" | "selftest" | "bench" }>;
type Without<T, K extends keyof T> = T extends unknown ? Omit<T, K> : never;
export type Beginning = Without<Begin, "descriptors">;

const id = z.number().int().nonnegative();
const ms = z.number().nonnegative();
const text = z.string().nullable();
const tokens = z.array(z.number().int().nonnegative());
// JSON has no infinities: a logit of -inf may make a log-probability of -inf, which is sent as null.
const logprob = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NEGATIVE_INFINITY);

const finished = z.strictObject({
  type: z.literal("finished"),
  id,
  prompt: text,
  promptTokenIds: tokens,
  tokenIds: tokens,
  logprobs: z.array(logprob),
  text,
  channels: z.record(z.string(), z.string()),
  finishReason: z.enum(["stop", "length"]),
  /** Kinds of steps that this request took part in. */
  buckets: z.array(z.enum(["decode", "mixed"])),
  queuedMs: ms,
  prefillMs: ms,
  decodeMs: ms,
});

/** What of a model decides how large its launches are. */
export type BenchShape = Pick<
  ModelFacts,
  "hidden" | "intermediate" | "heads" | "kvHeads" | "headDim" | "experts" | "topK" | "vocab" | "slidingWindow"
>;

/** Bytes of a GPU, as its driver sees them; `used`: the most that was used besides the context. Zeroes for the CPU. */
const memory = z.strictObject({ free: ms, total: ms, given: ms, used: ms });

const watched = z.strictObject({
  type: z.literal("watched"),
  steps: z.array(
    z.strictObject({
      bucket: z.enum(["decode", "mixed"]),
      tokens: ms,
      sequences: ms,
      /** Since the step before it, or since it was begun. */
      ms,
      /** Of that, while a program was at work. */
      busyMs: ms,
    }),
  ),
  /** Of each step, the number of different experts in every layer. */
  experts: z.array(z.strictObject({ bucket: z.enum(["decode", "mixed"]), tokens: ms, distinct: z.array(ms) })),
  /** Milliseconds of the first step of each kind, as one program, and of each of its stages. */
  stages: z.array(
    z.strictObject({
      ...{ bucket: z.enum(["decode", "mixed"]), tokens: ms, sequences: ms, ms },
      stages: z.array(
        z.strictObject({
          name: z.string(),
          launches: ms,
          /** All of them, one behind the other. */
          alone: ms,
          /** The step when they are left out; null where that would not be the same step. */
          without: ms.nullable(),
        }),
      ),
    }),
  ),
  /** Tokens of all layers that followed others: how many, how many would have gone elsewhere, and by how much of a weight. */
  routing: z.strictObject({ followed: ms, otherwise: ms, furthest: ms }),
  memory,
});

/** What a part of the start took, and when it began: milliseconds since 1970, the same clock in host and caller. */
const timeline = z.array(z.strictObject({ name: z.string(), at: ms, ms }));

/** A GPU driver's library that was opened, the CUDA version it runs, and how the device calls itself. */
const driver = z.strictObject({ path: z.string(), digest: z.string(), cuda: z.string(), device: z.string() });

const fromHost = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("progress"), done: ms, total: ms }),
  /** One case of an op; `error` is null where it is not a number. */
  z.strictObject({
    type: z.literal("tested"),
    kernel: z.string(),
    op: z.string(),
    label: z.string(),
    ok: z.boolean(),
    error: z.number().nullable(),
    text: z.string(),
  }),
  /** The GPU that was named is open. */
  z.strictObject({ type: z.literal("prepared") }),
  /** It has confined itself, and loads kernels next. */
  z.strictObject({ type: z.literal("confined") }),
  z.strictObject({
    type: z.literal("ready"),
    driver: driver.nullable(),
    timeline,
  }),
  watched,
  /** What the device copies, read and written bytes together. */
  z.strictObject({ type: z.literal("ceiling"), bytesPerSecond: ms }),
  /** One kind of launch of an op; without `time`, `text` says why. */
  z.strictObject({
    type: z.literal("timed"),
    kernel: z.string(),
    variant: z.string(),
    op: z.string(),
    layout: z.string().nullable(),
    label: z.string(),
    tokens: ms,
    time: z.strictObject({ ms, best: ms, runs: ms, launches: ms, bytes: ms, operations: ms, experts: ms }).nullable(),
    text: z.string(),
  }),
  /** Asks for a chat template to be rendered, which the host may not do itself. */
  z.strictObject({ type: z.literal("render"), id, variables: z.record(z.string(), z.unknown()) }),
  z.strictObject({
    type: z.literal("token"),
    id,
    token: z.number().int().nonnegative(),
    logprob,
    text,
    channel: text,
    content: text,
  }),
  /** Tail: f32 [rows, vocab], little endian; rows come in order. */
  z.strictObject({ type: z.literal("logits"), id, rows: z.number().int().positive() }),
  /** Tail: f32 [rows, 3]: id of the largest logit, the logit, the second largest. */
  z.strictObject({ type: z.literal("best"), id, rows: z.number().int().positive() }),
  finished,
  z.strictObject({
    type: z.literal("failed"),
    /** Null: the engine itself failed, and ends. */
    id: id.nullable(),
    error: z.strictObject({
      code: z.string().regex(/^KL_[A-Z0-9_]+$/),
      message: z.string(),
      remedy: z.string().optional(),
      row: z.string().optional(),
      details: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
]);

/** As the host writes it; `parseFromHost` gives what the client reads. */
export type FromHost = z.input<typeof fromHost>;
export type HostMessage = z.output<typeof fromHost>;
export type Tested = Omit<Extract<HostMessage, { type: "tested" }>, "type">;
export type Timed = Omit<Extract<HostMessage, { type: "timed" }>, "type">;
export type Watched = Omit<z.output<typeof watched>, "type">;
export type DeviceMemory = z.output<typeof memory>;
export type Timeline = z.output<typeof timeline>;
export type Driver = z.output<typeof driver>;
export type Finished = z.output<typeof finished>;
export type WireError = Extract<FromHost, { type: "failed" }>["error"];

/** @throws KL_ENGINE_PROTOCOL */
export function parseFromHost(json: unknown): HostMessage {
  const parsed = fromHost.safeParse(json);
  return parsed.success ? parsed.data : fail("KL_ENGINE_PROTOCOL", "The engine host sent a malformed message.");
}

export const wireError = (error: unknown): WireError =>
  error instanceof KernlockError
    ? (error.toJSON() as WireError)
    : { code: "KL_ENGINE_INTERNAL", message: error instanceof Error ? error.message : String(error) };

export function fromWireError({ code, message, remedy, row, details }: WireError): KernlockError {
  return new KernlockError(code as `KL_${string}`, message, {
    ...(remedy === undefined ? {} : { remedy }),
    ...(row === undefined ? {} : { row }),
    ...(details === undefined ? {} : { details }),
  });
}

/** No frame is larger; logits come in pieces far smaller. */
const maxFrame = 256 << 20;

/** The tail is copied: what it is a view of may change before it is written. */
export function frame(message: ToHost | FromHost, tail: Uint8Array = new Uint8Array(0)): Uint8Array[] {
  const json = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(8);
  head.writeUInt32LE(json.length, 0);
  head.writeUInt32LE(tail.length, 4);
  return tail.length === 0 ? [head, json] : [head, json, Uint8Array.from(tail)];
}

/** Takes a byte stream apart into frames. The tail is a copy, aligned for typed arrays. */
export function frameReader(onFrame: (json: unknown, tail: Uint8Array) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let have = 0;
  let want = 8;
  return (chunk) => {
    chunks.push(chunk);
    have += chunk.length;
    if (have < want) return;
    let bytes = chunks.length === 1 ? chunk : Buffer.concat(chunks);
    while (bytes.length >= 8) {
      const json = bytes.readUInt32LE(0);
      const tail = bytes.readUInt32LE(4);
      want = 8 + json + tail;
      if (want > maxFrame) fail("KL_ENGINE_PROTOCOL", "A message between engine and host is larger than any may be.");
      if (bytes.length < want) break;
      onFrame(parseJson(bytes.subarray(8, 8 + json)), Uint8Array.from(bytes.subarray(8 + json, want)));
      bytes = bytes.subarray(want);
      want = 8;
    }
    chunks = [bytes];
    have = bytes.length;
  };
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return fail("KL_ENGINE_PROTOCOL", "A message between engine and host is not JSON.");
  }
}
