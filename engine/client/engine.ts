import { fail, KernlockError } from "@kernlock/kernels/format";
import type { SealedKernel } from "@kernlock/loader";
import { type KernelFacts, type PlanRequest, plan as planModel } from "@kernlock/policies/compatibility";
import { confinementFacts } from "../confine/index.ts";
import { describeModel, modelFacts, startRenderProcess } from "../model/index.ts";
import { addonPath } from "../native/addon.ts";
import { startUntaken } from "./early.ts";
import type { HostEvents, StartProcess } from "./host.ts";
import { readMachineFacts } from "./machine.ts";
import {
  type Driver,
  fromWireError,
  type HostMessage,
  type Timeline,
  type Watch,
  type Watched,
  wireError,
} from "./protocol.ts";
import type {
  BatchItem,
  Engine,
  EngineOptions,
  Generated,
  GenerateOptions,
  GenerateRequest,
  TokenEvent,
} from "./types.ts";
import { toResult, toWire } from "./wire.ts";

/** What `generate` asks for when nobody says anything; override what you need. */
export function defaultRequest(overrides: Partial<PlanRequest> = {}): PlanRequest {
  return {
    device: "auto",
    mode: null,
    pins: [],
    allowDequant: false,
    policyAllowsDequant: false,
    maxContext: null,
    maxSequences: null,
    maxBatchTokens: null,
    workers: null,
    ...overrides,
  };
}

/** What the planner wants to know about a kernel that the loader has sealed. */
export function kernelFacts(kernel: SealedKernel): KernelFacts {
  return {
    name: kernel.name,
    version: kernel.version,
    digest: kernel.manifest,
    signers: kernel.signers,
    descriptor: kernel.variant,
    permits: kernel.permits,
  };
}

/** What the host says about one request. */
type Answer = Extract<HostMessage, { type: "token" | "logits" | "best" | "finished" | "failed" }>;

/** A request that the host works on. */
interface Pending {
  readonly signal: AbortSignal | undefined;
  readonly seed: bigint;
  readonly onToken: ((event: TokenEvent) => void) | undefined;
  readonly logits: Float32Array[] | null;
  readonly best: { ids: number[]; margins: number[] } | null;
  resolve(value: Generated): void;
  reject(error: unknown): void;
}

/**
 * Plans, starts the host, hands it kernels and model, and resolves when the weights are in place.
 * Closing the model or the kernels afterwards is the caller's: the host has its own copies of the descriptors.
 *
 * @throws KL_PLAN_*, KL_LOAD_*, KL_MODEL_*, KL_ENGINE_*
 */
export const startEngine = (options: EngineOptions): Promise<Engine> => startEngineIn(options);

/** `start`: for tests alone, which need a host that nothing confines. */
export async function startEngineIn(options: EngineOptions, start?: StartProcess): Promise<Engine> {
  const { kernels, model, request, onPlan, onProgress } = options;
  const machine = { confinement: confinementFacts(), ...(options.machine ?? readMachineFacts()) };
  const effort = request.confinement ?? "required";
  const facts = modelFacts(model);
  const plan = planModel({ model: facts, machine, kernels: options.locked ?? kernels.map(kernelFacts), request });
  onPlan?.(plan);
  // The host has neither a compiler nor the means to start one.
  addonPath();

  const fds = model.files.map((file) => file.fd);
  const handed = (fd: number): number => fds.push(fd) - 1;
  // Kernels that the plan does not use are not handed over.
  const used = [...plan.ops, ...plan.conversions];
  const needed = kernels.filter((one) =>
    used.some(({ kernel, variant }) => kernel === one.name && variant === one.variantKey),
  );
  const hosted = needed.map(({ name, version, manifest, variant, files }) => ({
    ...{ name, version, digest: manifest, variant },
    files: files.map(({ path, fd }) => ({ path, fd: handed(fd) })),
  }));
  const modelFds = model.files.map((_, i) => i);

  const templates = model.template === null ? null : startRenderProcess(model, { effort });
  const pending = new Map<number, Pending>();
  const ready = Promise.withResolvers<void>();
  let ended: KernlockError | null = null;
  let nextId = 0;
  let driver: Driver | null = null;
  let timeline: Timeline = [];
  const watchers: PromiseWithResolvers<Watched>[] = [];
  const events: HostEvents = {
    onMessage(message, tail) {
      switch (message.type) {
        case "render":
          void render(message.id, message.variables);
          return;
        case "tested":
        case "timed":
        case "ceiling":
          return;
        case "watched": {
          const { type: _, ...found } = message;
          watchers.shift()?.resolve(found);
          return;
        }
        case "progress":
          onProgress?.(message.done, message.total);
          return;
        case "ready":
          ({ driver, timeline } = message);
          ready.resolve();
          return;
        default:
          settle(message, tail);
      }
    },
    onEnd(reason) {
      ended = reason;
      ready.reject(reason);
      for (const one of [...pending.values(), ...watchers]) one.reject(reason);
      pending.clear();
      watchers.length = 0;
      void templates?.close();
    },
  };
  const early = await options.early?.takeFor(plan, effort);
  const untaken =
    early ?? startUntaken({ effort, cuda: plan.device !== "cpu", ...(start === undefined ? {} : { start }) });
  const host = untaken.take(events);
  // Needed with the first conversation, and ready by then. Why it does not start is told to whoever needs it.
  templates?.start().catch(() => {});

  async function render(id: number, variables: Readonly<Record<string, unknown>>): Promise<void> {
    try {
      const text = await (templates ?? fail("KL_TEMPLATE_ABSENT", "The model has no chat template.")).render(variables);
      host.send({ type: "rendered", id, text });
    } catch (error) {
      host.send({ type: "unrendered", id, error: wireError(error) });
    }
  }

  function settle(message: Answer, tail: Uint8Array): void {
    const { id } = message;
    const one = id === null ? undefined : pending.get(id);
    if (id === null || one === undefined) return;
    try {
      tell(one, message, tail);
      if (message.type === "token" || message.type === "logits" || message.type === "best") return;
    } catch (error) {
      // The caller's own callback, or logits that nothing can hold: this request ends, others go on.
      one.reject(error);
      host.send({ type: "abort", id });
    }
    pending.delete(id);
  }

  function tell(one: Pending, message: Answer, tail: Uint8Array): void {
    switch (message.type) {
      case "token": {
        const { token, logprob, text, channel, content } = message;
        one.onToken?.({ id: token, logprob, text, channel, content });
        return;
      }
      case "logits":
        one.logits?.push(new Float32Array(tail.buffer, tail.byteOffset, tail.length / 4));
        return;
      case "best": {
        const rows = new Float32Array(tail.buffer, tail.byteOffset, tail.length / 4);
        for (let row = 0; row < message.rows; row++) {
          const [id = 0, first = 0, second = 0] = rows.subarray(3 * row, 3 * row + 3);
          one.best?.ids.push(id);
          one.best?.margins.push(first - second);
        }
        return;
      }
      case "finished": {
        // The answer may have been whole before the host heard that nobody wants it.
        if (one.signal?.aborted) fail("KL_ENGINE_ABORTED", "The request was given up by its caller.");
        const logits = one.logits === null ? null : join(one.logits, facts.vocab);
        const result = toResult(message, plan, host.confinement, driver);
        one.resolve({ result, logits, best: one.best, seed: one.seed });
        return;
      }
      case "failed":
        one.reject(fromWireError(message.error));
        return;
    }
  }

  async function generate(request: GenerateRequest, { onToken, signal }: GenerateOptions = {}): Promise<Generated> {
    const wire = toWire(request);
    if (ended !== null) throw ended;
    if (signal?.aborted) fail("KL_ENGINE_ABORTED", "The request was given up before it began.");
    const id = nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Generated>();
    const kept = {
      logits: wire.logits === true ? [] : null,
      best: wire.logits === "best" ? { ids: [], margins: [] } : null,
    };
    pending.set(id, { seed: BigInt(wire.seed), onToken, signal, ...kept, resolve, reject });
    const abort = (): void => host.send({ type: "abort", id });
    signal?.addEventListener("abort", abort, { once: true });
    host.send({ type: "generate", id, request: wire });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  async function generateAll(requests: readonly GenerateRequest[]): Promise<BatchItem[]> {
    const all = await Promise.allSettled(host.together(() => requests.map((one) => generate(one))));
    return all.map((item): BatchItem => {
      if (item.status === "fulfilled") return { ok: true, value: item.value };
      if (item.reason instanceof KernlockError) return { ok: false, error: item.reason };
      throw item.reason;
    });
  }

  const begin = {
    type: "start" as const,
    plan,
    model: describeModel(model),
    modelFds,
    kernels: hosted,
    compilePtx: plan.ptx.length > 0,
    careful: options.careful ?? false,
    ahead: options.ahead ?? true,
    loading: options.loading ?? { reserve: true, overlap: true },
  };
  try {
    host.begin(begin, fds);
    await ready.promise;
  } catch (error) {
    await host.close();
    throw error;
  }
  const close = (): Promise<void> => host.close();
  const { confinement } = host;
  const watch = (what: Watch): Promise<Watched> => {
    if (ended !== null) return Promise.reject(ended);
    const waiting = Promise.withResolvers<Watched>();
    watchers.push(waiting);
    host.send({ type: "watch", what });
    return waiting.promise;
  };
  return {
    ...{ plan, pid: host.pid, confinement, driver, timeline },
    ...{ watch, generate, generateAll, close, [Symbol.asyncDispose]: close },
  };
}

/** @throws KL_ENGINE_LOGITS when one array cannot hold them */
function join(pieces: readonly Float32Array[], vocab: number): NonNullable<Generated["logits"]> {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (length > 2 ** 32 - 1) fail("KL_ENGINE_LOGITS", "The logits of one request are more than an array can hold.");
  const data = new Float32Array(length);
  let offset = 0;
  for (const piece of pieces) {
    data.set(piece, offset);
    offset += piece.length;
  }
  return { rows: length / vocab, vocab, data };
}
