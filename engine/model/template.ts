import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import { fail } from "@kernlock/kernels/format";
import { createGuard, stringsOf } from "./guard.ts";
import { parseMessages } from "./messages.ts";
import { type RenderJob, type RenderReply, type WorkerData, workerMain } from "./template-worker.ts";
import type { Conversation, Model, RenderedPrompt, TemplateRenderer, Tokenizer } from "./types.ts";

export interface TemplateLimits {
  /** Wall-clock time of one rendering. */
  readonly milliseconds: number;
  /** UTF-8 bytes of the rendered prompt. */
  readonly output: number;
  /** Heap of the worker, MiB. */
  readonly memory: number;
}
const defaults: TemplateLimits = { milliseconds: 2000, output: 1 << 20, memory: 64 };
const maxRange = 1 << 16;
/** A worker starts in some 30 ms; on a machine that is this busy nothing else works either. */
const startMilliseconds = 30_000;

/**
 * Starts the renderer of the model's chat template. Everything it will ever read is read here, so that it goes on
 * working (and can start anew after a template that looped) in a process that may open no more files.
 *
 * @throws KL_TEMPLATE_ABSENT
 */
export async function createTemplateRenderer(
  model: Pick<Model, "template" | "templateTokens">,
  tokenizer: Tokenizer,
  limits: Partial<TemplateLimits> = {},
): Promise<TemplateRenderer> {
  const { template, templateTokens } = model;
  if (template === null) {
    return fail("KL_TEMPLATE_ABSENT", "The model has no chat template.", {
      remedy: "Use --prompt or --token-ids, or put chat_template.jinja into the model's folder.",
    });
  }
  const worker = new TemplateWorker(template, { ...defaults, ...limits });
  await worker.start();

  const render = async (conversation: Conversation): Promise<RenderedPrompt> => {
    const data = {
      ...conversation.variables,
      messages: parseMessages(conversation.messages),
      ...(conversation.reasoningEffort === undefined ? {} : { reasoning_effort: conversation.reasoningEffort }),
    };
    const guard = createGuard(tokenizer, [template, ...Object.values(templateTokens), ...stringsOf(data)]);
    const text = await worker.render({
      ...templateTokens,
      add_generation_prompt: conversation.addGenerationPrompt ?? true,
      ...guard.hide(data),
    });
    return guard.reveal(text);
  };
  return { render, close: () => worker.close(), [Symbol.asyncDispose]: () => worker.close() };
}

/** One worker at a time, one rendering at a time; a worker that breaks a limit is killed and replaced. */
class TemplateWorker {
  readonly #source: string;
  readonly #data: WorkerData;
  readonly #limits: TemplateLimits;
  #running: Worker | null = null;
  /** Who waits for the running worker's next message. */
  #waiting: ((reply: RenderReply) => void) | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(template: string, limits: TemplateLimits) {
    const jinja = readFileSync(createRequire(import.meta.url).resolve("@huggingface/jinja"), "utf8");
    this.#source = [
      "const { parentPort, workerData } = require('node:worker_threads');",
      `const box = { exports: {} }; (function (module, exports) { ${jinja}\n})(box, box.exports);`,
      `(${workerMain.toString()})(box.exports, parentPort, workerData);`,
    ].join("\n");
    this.#limits = limits;
    this.#data = { template, maxOutput: limits.output, maxRange };
  }

  async start(): Promise<Worker> {
    if (this.#closed) fail("KL_TEMPLATE_ERROR", "The template renderer is closed.");
    if (this.#running !== null) return this.#running;
    const worker = this.#launch();
    this.#running = worker;
    const reply = await this.#reply(startMilliseconds);
    if (reply.kind !== "ready") {
      await this.#kill();
      fail("KL_TEMPLATE_ERROR", "The template renderer does not start.");
    }
    worker.unref();
    return worker;
  }

  render(variables: Record<string, unknown>): Promise<string> {
    const turn = this.#queue.then(() => this.#render(variables));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#kill();
  }

  #launch(): Worker {
    const worker = new Worker(this.#source, {
      eval: true,
      name: "chat-template",
      workerData: this.#data,
      env: {},
      argv: [],
      execArgv: [],
      stdin: false,
      stdout: true,
      stderr: true,
      resourceLimits: { maxOldGenerationSizeMb: this.#limits.memory, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 },
    });
    // Of a worker that is being killed nothing is heard any more.
    const tell = (reply: RenderReply): void => {
      if (this.#running === worker) this.#waiting?.(reply);
    };
    worker.on("message", tell);
    worker.on("messageerror", () => tell({ kind: "limit", message: "its output could not be read" }));
    worker.on("error", (error: NodeJS.ErrnoException) => {
      const memory = error.code === "ERR_WORKER_OUT_OF_MEMORY";
      tell({ kind: "limit", message: memory ? `it took more than ${this.#limits.memory} MiB` : "it crashed" });
    });
    worker.on("exit", () => tell({ kind: "limit", message: "it ended by itself" }));
    return worker;
  }

  #reply(milliseconds: number): Promise<RenderReply> {
    return new Promise((resolve) => {
      const settle = (reply: RenderReply): void => {
        clearTimeout(timer);
        this.#waiting = null;
        resolve(reply);
      };
      const late = `it did not end within ${milliseconds} ms`;
      const timer = setTimeout(() => settle({ kind: "limit", message: late }), milliseconds);
      this.#waiting = settle;
    });
  }

  async #render(variables: Record<string, unknown>): Promise<string> {
    const worker = await this.start();
    const job: RenderJob = { variables, now: Date.now() };
    worker.postMessage(job);
    const reply = await this.#reply(this.#limits.milliseconds);
    switch (reply.kind) {
      case "done":
        return reply.text;
      case "error":
        return broken(reply.message);
      case "limit":
      case "ready":
        await this.#kill();
        return overLimit(reply.kind === "limit" ? reply.message : "it lost its place");
      default:
        return reply satisfies never;
    }
  }

  async #kill(): Promise<void> {
    const worker = this.#running;
    this.#running = null;
    this.#waiting?.({ kind: "limit", message: "the renderer was closed" });
    await worker?.terminate();
  }
}

function overLimit(message: string): never {
  return fail("KL_TEMPLATE_LIMIT", `The chat template went over its limits: ${message}.`, {
    remedy: "Take the publisher's own template, or shorten the conversation.",
  });
}

function broken(message: string): never {
  return fail("KL_TEMPLATE_ERROR", `The chat template failed: ${message.replace(/[\p{C}]+/gu, " ")}.`, {
    remedy: "Take the publisher's own template; it may also have refused these messages.",
  });
}
