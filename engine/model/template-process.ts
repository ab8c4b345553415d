/**
 * Main module of the process that renders a chat template. A template is a program of a stranger: here it can neither
 * keep the engine waiting nor take its memory down, for V8 ends the whole process when one string does not fit.
 *
 * Everything is loaded by the time `ready` is sent; afterwards no file is opened. The process ends with its parent.
 */
import { createRequire } from "node:module";
import { runInThisContext } from "node:vm";
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/** The first message. */
export interface RenderSetup {
  readonly template: string;
  readonly milliseconds: number;
  /** UTF-8 bytes. */
  readonly maxOutput: number;
}

/** Every further message. */
export interface RenderJob {
  readonly variables: Readonly<Record<string, unknown>>;
  /** Epoch milliseconds, for `strftime_now`. */
  readonly now: number;
}

export type RenderReply =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly text: string }
  | { readonly kind: "limit" | "error"; readonly message: string };

class Limit extends Error {}

/** Items that `range` may give in one rendering. */
const maxRange = 1 << 16;

function createRange(): (start: number, stop?: number | null, step?: number) => number[] {
  let left = maxRange;
  return (start, stop, step = 1) => {
    const [from, to] = stop === undefined || stop === null ? [0, start] : [start, stop];
    const length = Math.max(0, Math.ceil((to - from) / step));
    if (step === 0 || Number.isNaN(length)) throw new Error("range() has no such numbers");
    if (length > left) throw new Limit(`range() gave more than ${maxRange} items`);
    left -= length;
    return Array.from({ length }, (_, i) => from + i * step);
  };
}

const months = "January February March April May June July August September October November December".split(" ");
const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** Python's strftime in the C locale, as far as templates use it; other directives stay as they are. */
function strftime(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, "0");
  const parts: Readonly<Record<string, string>> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    B: months[date.getMonth()]!,
    b: months[date.getMonth()]!.slice(0, 3),
    A: days[date.getDay()]!,
    a: days[date.getDay()]!.slice(0, 3),
    H: two(date.getHours()),
    I: two(date.getHours() % 12 || 12),
    p: date.getHours() < 12 ? "AM" : "PM",
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    "%": "%",
  };
  return format.replace(/%(.)/g, (all, c: string) => parts[c] ?? all);
}

type Program = ReturnType<typeof parse>;

/** The whitespace rules of Hugging Face chat templates. */
function compile(template: string): Program {
  return parse(tokenize(template, { trim_blocks: true, lstrip_blocks: true }));
}

function run(program: Program, job: RenderJob): string {
  const environment = new Environment();
  const names: Record<string, unknown> = {
    ...job.variables,
    ...{ true: true, false: false, none: null, True: true, False: false, None: null },
    range: createRange(),
    strftime_now: (format: string) => strftime(new Date(job.now), format),
    raise_exception: (message: string) => {
      throw new Error(message);
    },
  };
  for (const [name, value] of Object.entries(names)) environment.set(name, value);
  return String(new Interpreter(environment).run(program).value);
}

/** Runs synchronous code for at most so many milliseconds: V8 stops it, wherever it is. */
function within<T>(milliseconds: number, code: () => T): T {
  const slot = globalThis as { timedCode?: () => T };
  slot.timedCode = code;
  return runInThisContext("timedCode()", { timeout: milliseconds });
}

function reply(value: RenderReply): void {
  process.send!(value);
}

/** From here on this process opens no file and no socket and starts nothing: it can compute and answer. */
function confine([addon, effort]: readonly string[]): void {
  const native = createRequire(import.meta.url)(addon!) as { confine(strength: "renderer", alarm: number): number };
  const errno = native.confine("renderer", -1);
  if (errno !== 0 && effort !== "best-effort") throw new Error(`it cannot be confined (error ${errno})`);
}

function serve({ template, milliseconds, maxOutput }: RenderSetup): void {
  let program: Program | undefined;
  const render = (job: RenderJob): string => {
    const text = within(milliseconds, () => {
      program ??= compile(template);
      return run(program, job);
    });
    if (Buffer.byteLength(text) > maxOutput) throw new Limit(`the prompt has more than ${maxOutput} bytes`);
    return text;
  };
  process.on("message", (job: RenderJob) => {
    try {
      reply({ kind: "done", text: render(job) });
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      if (code === "ERR_SCRIPT_EXECUTION_TIMEOUT") {
        reply({ kind: "limit", message: `it did not end within ${milliseconds} ms` });
        return;
      }
      // A RangeError is the end of the stack or of the longest string: a template without bounds, not a broken one.
      const limit = error instanceof Limit || error instanceof RangeError;
      reply({ kind: limit ? "limit" : "error", message: String(message ?? error).slice(0, 500) });
    }
  });
}

process.once("message", (setup: RenderSetup) => {
  serve(setup);
  // Whatever is loaded or looked up late (the time zone is a file) is had now.
  within(1000, () => run(compile("{{ strftime_now('%H') }}"), { variables: {}, now: Date.now() }));
  try {
    confine(process.argv.slice(2));
    reply({ kind: "ready" });
  } catch (error) {
    reply({ kind: "error", message: (error as Error).message });
  }
});
