/** The engine proper: requests in, tokens out. Everything that computes is an op of a sealed kernel. */
import { fail, KernlockError } from "@kernlock/kernels/format";
import type { Plan } from "@kernlock/policies/compatibility";
import {
  type Driver,
  type FromHost,
  type Timeline,
  type ToHost,
  type Watch,
  type Watched,
  type WireRequest,
  wireError,
} from "../client/protocol.ts";
import { confineHost } from "../confine/self.ts";
import { type Model, modelFacts, modelFromDescription, type RawRenderer } from "../model/index.ts";
import { type Device, findDriver, hashDriver, openDevice, type UploadTimes } from "../native/index.ts";
import { allocateBuffers } from "./buffers.ts";
import { loadOps } from "./kernels.ts";
import type { Prepared, Stopwatch } from "./prepared.ts";
import { type Job, openJob, openLanguage } from "./request.ts";
import { createRoutes } from "./routes.ts";
import { createScheduler, following, isDone, nextStep, type Part, retire } from "./scheduler.ts";
import { type Begun, createStepper, type StepResult } from "./step.ts";
import { createWatcher } from "./watch.ts";
import { loadWeights, openPlacing } from "./weights.ts";

/** Resolves when the channel has room again; the tail is copied at once. */
export type Send = (message: FromHost, tail?: Uint8Array) => Promise<void>;

export interface HostEngine {
  readonly driver: Driver | null;
  /** What each part of the start took. */
  readonly timeline: Timeline;
  /** What was gathered since the last call; from here on, gathers `what`. */
  watch(what: Watch): Watched;
  generate(id: number, request: WireRequest): void;
  abort(id: number): void;
}

/**
 * Loads kernels, then weights, then serves. What was prepared is of the plan's device, and of a driver that compiles no PTX:
 * the caller takes another host otherwise.
 * @throws KL_LOAD_*, KL_MODEL_*, KL_MEMORY_*
 */
export async function startHostEngine(
  {
    plan,
    model: description,
    modelFds,
    kernels,
    compilePtx,
    careful,
    ahead,
    loading,
  }: Extract<ToHost, { type: "start" }>,
  send: Send,
  templates: RawRenderer,
  { prepared, timeline }: { readonly prepared: Prepared | null; readonly timeline: Stopwatch },
): Promise<HostEngine> {
  const { mark } = timeline;
  const model = modelFromDescription(description, modelFds);
  const facts = modelFacts(model);
  if (prepared !== null && (compilePtx || `cuda:${prepared.device.ordinal}` !== plan.device)) {
    fail("KL_ENGINE_INTERNAL", "The engine host was prepared for another device than the plan's.");
  }
  const { device, driver } = prepared ?? openPlanned(plan, compilePtx);
  device.careful(careful);
  if (prepared === null) mark("driver and context");
  // What the driver and we must open is open; kernels come next.
  if (confineHost(process.argv.slice(2))) void send({ type: "confined" });
  const ops = loadOps(kernels, device);
  mark("kernels");
  let told = -1;
  const onProgress = (done: number, total: number): void => {
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    if (percent > told) void send({ type: "progress", done, total });
    told = percent;
  };
  const onTimes = ({ files, device }: UploadTimes): void => {
    timeline.note("(in the weights: waited for the files)", files);
    timeline.note("(in the weights: waited for the device)", device);
  };
  // Staging memory is taken before the reservation, which holds what stays.
  const placing = openPlacing({ model, plan, device, ops, loading, pinned: prepared?.pinned });
  mark(prepared === null ? "staging memory" : "staging memory of the device");
  if (loading.reserve) device.reserve(plan.memory.total + roundingRoom(model));
  mark("reservation");
  const [weights, language, opened] = await Promise.all([
    loadWeights({ model, plan, device, ops, placing, onProgress, onTimes }),
    timeline.beside("tokenizer", openLanguage(model, templates)),
    timeline.beside("driver's digest", driver),
  ]);
  mark("weights");
  const buffers = allocateBuffers(device, facts, plan);
  const routes = createRoutes(plan.maxContext, facts.topK);
  const stepper = createStepper({ device, plan, model: facts, config: model.config, ops, weights, buffers }, routes);
  const scheduler = createScheduler<Job>(facts, plan, plan.pages);
  /** Requests whose prompt is still being read. */
  const opening = new Set<number>();
  let stepping = false;
  const watcher = createWatcher(device);
  mark("buffers");

  /**
   * Steps until nothing is left to do; at most one of these runs. A step that fails ends the host (its rejection is not
   * caught): what every sequence holds is unknown then.
   */
  async function run(): Promise<void> {
    if (stepping) return;
    stepping = true;
    // What came with the request at hand starts with it.
    await new Promise((resolve) => setImmediate(resolve));
    watcher.begin();
    // The step at work. The one after it is handed over before its tokens are read, where it is certain that there is one.
    let step: Begun<Job> | null = null;
    for (;;) {
      if (step === null) {
        for (const job of retire(scheduler, (job) => job.aborted)) failed(job.id, aborted());
        for (const job of retire(scheduler, isDone)) finish(job);
        const parts = nextStep(scheduler);
        if (parts.length === 0) break;
        const now = performance.now();
        for (const { sequence } of parts) sequence.startedAt ??= now;
        if (watcher.wantsStages(parts)) watcher.timed(parts, stepper.time(parts));
        step = inPieces(parts) ? watcher.inPieces(await stepper.beginInPieces(parts)) : stepper.begin(parts, false);
      }
      const { parts, bucket }: Begun<Job> = step;
      const after: Part<Job>[] | null =
        ahead && !inPieces(parts) && watcher.what !== "stages"
          ? following(scheduler, parts, ({ aborted }) => aborted)
          : null;
      const next: Begun<Job> | null = after === null ? null : stepper.begin(after, true);
      const results = await step.results();
      watcher.ended(step);
      for (const [i, part] of parts.entries()) {
        part.sequence.buckets.add(bucket);
        await take(part, results[i]!);
      }
      step = next;
    }
    stepping = false;
  }

  /** Whether what is between the launches has to be seen. */
  const inPieces = (parts: readonly Part<Job>[]): boolean =>
    watcher.what === "experts" || parts.some(({ sequence }) => sequence.routing !== null);

  async function take({ sequence: job, count, rows }: Part<Job>, { next, logits }: StepResult): Promise<void> {
    job.computed += count;
    if (job.wantLogits) await (job.onlyBest ? sendBest : sendLogits)(job.id, rows, logits);
    if (next === null) return;
    if (next.id < 0 || next.id >= facts.vocab) {
      fail("KL_OP_FAILED", `The sampling op drew token ${next.id} of a vocabulary of ${facts.vocab}.`, {
        remedy: "The kernels that ran are at fault: the run record names them.",
      });
    }
    job.firstTokenAt ??= performance.now();
    job.tokens.push(next.id);
    job.logprobs.push(next.logprob);
    const full = job.tokens.length - job.promptLength === job.maxNewTokens;
    job.finish = job.stopIds.has(next.id) ? "stop" : full ? "length" : null;
    const said = job.answer.push(next.id, job.finish !== null);
    void send({ type: "token", id: job.id, token: next.id, logprob: next.logprob, ...said });
  }

  /** In pieces that no reader has to be afraid of. */
  async function sendLogits(id: number, rows: number, logits: Float32Array): Promise<void> {
    const most = Math.max(1, Math.floor((16 << 20) / facts.vocab));
    for (let row = 0; row < rows; row += most) {
      const piece = logits.subarray(row * facts.vocab, Math.min(rows, row + most) * facts.vocab);
      const bytes = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
      await send({ type: "logits", id, rows: piece.length / facts.vocab }, bytes);
    }
  }

  async function sendBest(id: number, rows: number, logits: Float32Array): Promise<void> {
    const best = new Float32Array(3 * rows);
    for (let row = 0; row < rows; row++) {
      let [at, first, second] = [0, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (let i = 0, k = row * facts.vocab; i < facts.vocab; i++, k++) {
        const value = logits[k]!;
        if (value > first) [at, second, first] = [i, first, value];
        else if (value > second) second = value;
      }
      best.set([at, first, second], 3 * row);
    }
    if (rows > 0) await send({ type: "best", id, rows }, new Uint8Array(best.buffer));
  }

  function finish(job: Job): void {
    const end = performance.now();
    const started = job.startedAt ?? end;
    void send({
      type: "finished",
      id: job.id,
      prompt: job.prompt,
      promptTokenIds: job.tokens.slice(0, job.promptLength),
      tokenIds: job.tokens.slice(job.promptLength),
      logprobs: job.logprobs,
      text: job.answer.text,
      channels: job.answer.channels,
      finishReason: job.finish!,
      buckets: [...job.buckets],
      queuedMs: started - job.queuedAt,
      prefillMs: (job.firstTokenAt ?? end) - started,
      decodeMs: end - (job.firstTokenAt ?? end),
    });
  }

  const failed = (id: number, error: unknown): void => void send({ type: "failed", id, error: wireError(error) });

  return {
    driver: opened,
    timeline: timeline.parts,
    watch: (what) => watcher.watch(what),
    generate(id, request) {
      opening.add(id);
      openJob({ model, plan, language, routes }, id, request).then(
        (job) => {
          if (!opening.delete(id)) return failed(id, aborted());
          scheduler.waiting.push(job);
          void run();
        },
        (error: unknown) => {
          opening.delete(id);
          failed(id, error);
        },
      );
    },
    abort(id) {
      if (opening.delete(id)) return;
      for (const job of [...scheduler.waiting, ...scheduler.running]) if (job.id === id) job.aborted = true;
      void run();
    },
  };
}

/** Every allocation of a GPU is rounded up to 256 bytes; these are about how many there are. */
const roundingRoom = (model: Model): number => 256 * (24 * model.config.layers + 64);

/** The device that the plan names, its driver opened with or without the compiler of PTX; for a GPU also what its driver is, once all of the library has been read. */
export function openPlanned(
  plan: Pick<Plan, "device" | "workers">,
  compilePtx: boolean,
): {
  device: Device;
  driver: Promise<Driver | null>;
} {
  if (plan.device === "cpu") {
    return { device: openDevice({ kind: "cpu", workers: plan.workers }), driver: Promise.resolve(null) };
  }
  const path = findDriver() ?? fail("KL_PLAN_NO_DRIVER", "There is no CUDA driver.", { remedy: "Install one." });
  const ordinal = Number(plan.device.slice("cuda:".length));
  const device = openDevice({ kind: "cuda", ordinal, driver: path, compilePtx });
  const { name, cuda } = device.gpu!;
  return { device, driver: hashDriver(path).then((file) => ({ ...file, cuda, device: name })) };
}

const aborted = (): KernlockError => new KernlockError("KL_ENGINE_ABORTED", "The request was given up by its caller.");
