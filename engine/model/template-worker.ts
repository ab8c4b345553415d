import type { MessagePort } from "node:worker_threads";

/** What the renderer sends to its worker. */
export interface RenderJob {
  readonly variables: Readonly<Record<string, unknown>>;
  /** Epoch milliseconds, for `strftime_now`. */
  readonly now: number;
}

export type RenderReply =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly text: string }
  | { readonly kind: "limit" | "error"; readonly message: string };

export interface WorkerData {
  readonly template: string;
  /** UTF-8 bytes. */
  readonly maxOutput: number;
  /** Items that `range` may give in one rendering. */
  readonly maxRange: number;
}

/** The parts of the Jinja library that are used, by its own types. */
type Jinja = Pick<typeof import("@huggingface/jinja"), "Environment" | "Interpreter" | "parse" | "tokenize">;

/**
 * The body of the worker. Its source text is handed to the worker, so it refers to nothing outside of itself: a new
 * worker can then be started in a process that may open no file.
 */
export function workerMain(jinja: Jinja, port: MessagePort, data: WorkerData): void {
  class Limit extends Error {}
  let program: ReturnType<Jinja["parse"]> | undefined;
  let rangeLeft = 0;
  let now = new Date(0);

  const range = (start: number, stop?: number, step = 1): number[] => {
    const [from, to] = stop === undefined || stop === null ? [0, start] : [start, stop];
    if (!step) throw new Error("range() needs a step");
    const length = Math.max(0, Math.ceil((to - from) / step));
    if (!(length <= rangeLeft)) throw new Limit(`range() went over ${data.maxRange} items`);
    rangeLeft -= length;
    return Array.from({ length }, (_, i) => from + i * step);
  };

  const months = "January February March April May June July August September October November December".split(" ");
  const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
  const two = (n: number): string => String(n).padStart(2, "0");
  const parts: Record<string, () => string> = {
    Y: () => String(now.getFullYear()),
    y: () => two(now.getFullYear() % 100),
    m: () => two(now.getMonth() + 1),
    d: () => two(now.getDate()),
    B: () => months[now.getMonth()]!,
    b: () => months[now.getMonth()]!.slice(0, 3),
    A: () => days[now.getDay()]!,
    a: () => days[now.getDay()]!.slice(0, 3),
    H: () => two(now.getHours()),
    I: () => two(now.getHours() % 12 || 12),
    p: () => (now.getHours() < 12 ? "AM" : "PM"),
    M: () => two(now.getMinutes()),
    S: () => two(now.getSeconds()),
    "%": () => "%",
  };
  const strftimeNow = (format: string): string => format.replace(/%(.)/g, (all, c: string) => parts[c]?.() ?? all);

  const raise = (message: string): never => {
    throw new Error(message);
  };
  const globals = { true: true, false: false, none: null, True: true, False: false, None: null };

  const render = (variables: Readonly<Record<string, unknown>>): string => {
    // The whitespace rules of Hugging Face chat templates.
    program ??= jinja.parse(jinja.tokenize(data.template, { trim_blocks: true, lstrip_blocks: true }));
    const environment = new jinja.Environment();
    const given = { ...variables, ...globals, range, strftime_now: strftimeNow, raise_exception: raise };
    for (const [name, value] of Object.entries(given)) environment.set(name, value);
    const text = String(new jinja.Interpreter(environment).run(program).value);
    if (text.length > data.maxOutput || new TextEncoder().encode(text).length > data.maxOutput) {
      throw new Limit(`the output is larger than ${data.maxOutput} bytes`);
    }
    return text;
  };

  port.on("message", (job: RenderJob) => {
    rangeLeft = data.maxRange;
    now = new Date(job.now);
    try {
      port.postMessage({ kind: "done", text: render(job.variables) });
    } catch (error) {
      const message = String(error instanceof Error ? error.message : error).slice(0, 500);
      // What exhausts the stack or the longest string is a template without bounds, not a broken one.
      const limit = error instanceof Limit || error instanceof RangeError;
      port.postMessage({ kind: limit ? "limit" : "error", message });
    }
  });
  // Local time is looked up once: reading the time zone opens a file.
  now = new Date();
  strftimeNow("%Y-%m-%d %H");
  port.postMessage({ kind: "ready" });
}
