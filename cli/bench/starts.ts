/** How long loading takes, in which parts, and how long a process needs from its start to its first token. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Loading, Timeline } from "@kernlock/engine";
import type { Model } from "@kernlock/engine/model";
import { fail } from "@kernlock/kernels/format";
import { median } from "./numbers.ts";
import type { Session } from "./session.ts";
import type { Choice } from "./table.ts";

export interface LoadRow extends Loading {
  /** Milliseconds from the call to an engine that is ready: the median of the runs. */
  readonly ms: number;
  readonly runs: readonly number[];
  /** Of the median run. */
  readonly timeline: Timeline;
}

/** The parts of a start, each with and without. On a CPU, which maps the files, there is nothing to leave out. */
export async function timeLoading(session: Session, model: Model, choice: Choice, repeats: number): Promise<LoadRow[]> {
  const all: readonly Loading[] = [
    { reserve: true, overlap: true },
    { reserve: false, overlap: true },
    { reserve: true, overlap: false },
    { reserve: false, overlap: false },
  ];
  const rows: LoadRow[] = [];
  for (const loading of all) {
    const runs: { ms: number; timeline: Timeline; cpu: boolean }[] = [];
    for (let run = 0; run < repeats; run++) {
      const begin = performance.now();
      await using engine = await session.start(
        model,
        { ...choice.request, maxContext: 1024, maxSequences: 1 },
        { loading },
      );
      runs.push({ ms: performance.now() - begin, timeline: engine.timeline, cpu: engine.plan.device === "cpu" });
    }
    const middle = runs.toSorted((a, b) => a.ms - b.ms)[runs.length >> 1]!;
    rows.push({
      ...loading,
      ms: median(runs.map(({ ms }) => ms)),
      runs: runs.map(({ ms }) => ms),
      timeline: middle.timeline,
    });
    if (middle.cpu) break;
  }
  return rows;
}

export interface StartRow {
  /** Milliseconds from the start of a process to its first token: the median of the runs, of which the first does not count. */
  readonly ms: number;
  readonly runs: readonly number[];
  readonly timeline: Timeline;
}

/** Starts this program again and again as `bench start`, with the same flags. @throws KL_BENCH_START */
export async function timeStarts(args: readonly string[], repeats: number): Promise<StartRow> {
  const runs: { ms: number; timeline: Timeline }[] = [];
  for (let run = 0; run <= repeats; run++) {
    const one = await startOnce(args);
    if (run > 0) runs.push(one);
  }
  const middle = runs.toSorted((a, b) => a.ms - b.ms)[runs.length >> 1]!;
  return { ms: median(runs.map(({ ms }) => ms)), runs: runs.map(({ ms }) => ms), timeline: middle.timeline };
}

async function startOnce(args: readonly string[]): Promise<{ ms: number; timeline: Timeline }> {
  const main = join(import.meta.dirname, "..", import.meta.filename.endsWith(".ts") ? "main.ts" : "main.js");
  const begin = performance.now();
  const child = spawn(process.execPath, [main, "bench", "start", ...args, "--json"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "";
  let ms: number | null = null;
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    // The first thing that it says is that the token is there.
    ms ??= performance.now() - begin;
    text += piece;
  });
  const code = await new Promise<number | null>((done, failed) => {
    child.on("error", failed);
    child.on("close", done);
  });
  const answer = safely(text) as { timeline?: Timeline; error?: { code: string; message: string } } | null;
  if (code !== 0 || ms === null || answer?.timeline === undefined) {
    fail("KL_BENCH_START", `A process of its own gave no token: ${answer?.error?.message ?? `exit code ${code}`}`, {
      remedy: "Run `kernlock bench start` with the same flags to see why.",
    });
  }
  return { ms, timeline: answer.timeline };
}

function safely(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
