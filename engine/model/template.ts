import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { fail } from "@kernlock/kernels/format";
import { allowedToRenderer, confineAddonPath, type Effort, spawnConfined } from "../confine/index.ts";
import { createGuard, stringsOf } from "./guard.ts";
import { parseMessages } from "./messages.ts";
import type { RenderJob, RenderReply, RenderSetup } from "./template-process.ts";
import type { Conversation, Model, RenderedPrompt, TemplateRenderer, Tokenizer } from "./types.ts";

export interface TemplateLimits {
  /** Wall-clock time of one rendering. */
  readonly milliseconds: number;
  /** UTF-8 bytes of the rendered prompt. */
  readonly output: number;
  /** Heap of the rendering process, MiB. */
  readonly memory: number;
}
const defaults: TemplateLimits = { milliseconds: 2000, output: 1 << 20, memory: 64 };
/** It starts in some 100 ms; on a machine that is this busy nothing else works either. */
const startMilliseconds = 30_000;
/** The process stops a slow template itself and lives on; only if that fails is it killed. */
const graceMilliseconds = 1000;

/** What renders a template with given variables, wherever that may be. */
export interface RawRenderer {
  /** @throws KL_TEMPLATE_LIMIT, KL_TEMPLATE_ERROR */
  render(variables: Readonly<Record<string, unknown>>): Promise<string>;
  close(): Promise<void>;
}

/**
 * Starts the renderer of the model's chat template. It runs in a process of its own, which opens no file any more once it has
 * loaded everything. A template that loops is stopped; one that exhausts memory ends its process, and the next rendering
 * starts another.
 *
 * @throws KL_TEMPLATE_ABSENT, KL_CONFINE_UNAVAILABLE
 */
export async function createTemplateRenderer(
  model: Pick<Model, "template" | "templateTokens">,
  tokenizer: Tokenizer,
  limits: Partial<TemplateLimits> = {},
): Promise<TemplateRenderer> {
  const process = startRenderProcess(model, limits);
  await process.start();
  return templateRenderer(model, tokenizer, process);
}

/** The process alone; it starts when it is first used, or told to. @throws KL_TEMPLATE_ABSENT */
export function startRenderProcess(
  { template }: Pick<Model, "template">,
  { effort = "required", ...limits }: Partial<TemplateLimits> & { readonly effort?: Effort } = {},
): RawRenderer & { start(): Promise<unknown> } {
  return new RenderProcess(template ?? absent(), { ...defaults, ...limits }, effort);
}

const absent = (): never =>
  fail("KL_TEMPLATE_ABSENT", "The model has no chat template.", {
    remedy: "Use --prompt or --token-ids, or put chat_template.jinja into the model's folder.",
  });

/** Conversations in, prompts out, whose contents cannot pass for special tokens. @throws KL_TEMPLATE_ABSENT */
export function templateRenderer(
  { template, templateTokens }: Pick<Model, "template" | "templateTokens">,
  tokenizer: Tokenizer,
  renderer: RawRenderer,
): TemplateRenderer {
  const source = template ?? absent();
  const render = async (conversation: Conversation): Promise<RenderedPrompt> => {
    const data = {
      ...conversation.variables,
      messages: parseMessages(conversation.messages),
      ...(conversation.reasoningEffort === undefined ? {} : { reasoning_effort: conversation.reasoningEffort }),
    };
    const guard = createGuard(tokenizer, [source, ...Object.values(templateTokens), ...stringsOf(data)]);
    const text = await renderer.render({
      ...templateTokens,
      add_generation_prompt: conversation.addGenerationPrompt ?? true,
      ...guard.hide(data),
    });
    return guard.reveal(text);
  };
  return { render, close: () => renderer.close(), [Symbol.asyncDispose]: () => renderer.close() };
}

/** One process, one rendering at a time. */
class RenderProcess {
  readonly #setup: RenderSetup;
  readonly #memory: number;
  readonly #effort: Effort;
  #child: ChildProcess | null = null;
  /** Of that child; whoever comes while it starts waits for the same start. */
  #started: Promise<ChildProcess> | null = null;
  /** Who waits for the process's next message. */
  #waiting: ((reply: RenderReply) => void) | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(template: string, limits: TemplateLimits, effort: Effort) {
    this.#memory = limits.memory;
    this.#effort = effort;
    this.#setup = { template, milliseconds: limits.milliseconds, maxOutput: limits.output };
  }

  async start(): Promise<ChildProcess> {
    if (this.#closed) fail("KL_TEMPLATE_ERROR", "The template renderer is closed.");
    this.#started ??= this.#begin();
    return this.#started;
  }

  async #begin(): Promise<ChildProcess> {
    const child = this.#launch();
    const reply = await this.#ask(child, this.#setup, startMilliseconds);
    if (reply.kind !== "ready") {
      this.#kill();
      return fail("KL_TEMPLATE_ERROR", `The template renderer does not start: ${messageOf(reply)}.`);
    }
    return child;
  }

  render(variables: Readonly<Record<string, unknown>>): Promise<string> {
    const turn = this.#queue.then(() => this.#render(variables));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#kill();
  }

  #launch(): ChildProcess {
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const main = fileURLToPath(new URL(`./template-process.${extension}`, import.meta.url));
    const addon = confineAddonPath();
    const node = ["--permission", "--allow-fs-read=*", "--allow-addons", "--no-warnings"];
    const child = spawnConfined({
      args: [...node, `--max-old-space-size=${this.#memory}`, main, addon, this.#effort],
      env: process.env.TZ === undefined ? {} : { TZ: process.env.TZ },
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      allowed: allowedToRenderer([main, addon]),
      effort: this.#effort,
    });
    // Of a process that is being killed nothing is heard any more.
    const tell = (reply: RenderReply): void => {
      if (this.#child === child) this.#waiting?.(reply);
    };
    child.on("message", (reply: RenderReply) => tell(reply));
    child.on("error", (error) => tell({ kind: "limit", message: `its process failed (${error.message})` }));
    child.on("exit", (_code, signal) => {
      tell({
        kind: "limit",
        message: `its process ended (${signal ?? "by itself"}), out of memory by all appearances`,
      });
      if (this.#child === child) this.#forget();
    });
    // It must not keep a program alive that is done; whoever waits for a reply has a timer.
    child.unref();
    child.channel?.unref();
    this.#child = child;
    return child;
  }

  #ask(child: ChildProcess, message: RenderSetup | RenderJob, milliseconds: number): Promise<RenderReply> {
    return new Promise((resolve) => {
      const settle = (reply: RenderReply): void => {
        clearTimeout(timer);
        this.#waiting = null;
        resolve(reply);
      };
      const late = `it did not end within ${milliseconds} ms`;
      const timer = setTimeout(() => settle({ kind: "limit", message: late }), milliseconds);
      this.#waiting = settle;
      child.send(message, (error) => {
        if (error !== null) settle({ kind: "limit", message: "its process has ended" });
      });
    });
  }

  async #render(variables: Readonly<Record<string, unknown>>): Promise<string> {
    const child = await this.start();
    const { milliseconds } = this.#setup;
    const started = performance.now();
    const reply = await this.#ask(child, { variables, now: Date.now() }, milliseconds + graceMilliseconds);
    switch (reply.kind) {
      case "done":
        return reply.text;
      case "error":
        return broken(reply.message);
      case "limit":
      case "ready":
        // Killed, unless it has answered in time that it is well.
        if (performance.now() - started >= milliseconds + graceMilliseconds) this.#kill();
        return overLimit(messageOf(reply));
      default:
        return reply satisfies never;
    }
  }

  #kill(): void {
    const child = this.#child;
    this.#forget();
    this.#waiting?.({ kind: "limit", message: "the renderer was closed" });
    child?.kill("SIGKILL");
  }

  #forget(): void {
    this.#child = null;
    this.#started = null;
  }
}

function messageOf(reply: RenderReply): string {
  return "message" in reply ? reply.message : "it lost its place";
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
