import { spawn } from "node:child_process";

export interface Finished {
  /** Exit status; null where a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** The program could not be started. */
  readonly missing: boolean;
}

const keptBytes = 256 << 10;

/** Runs a program with exactly the environment given. When time is up or the caller stops, its whole process group is ended. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: {
    cwd?: string;
    env: Record<string, string>;
    timeoutMs: number;
    signal?: AbortSignal | undefined;
    /** What it reads from standard input; nothing where it is missing. */
    input?: string | undefined;
  },
): Promise<Finished> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      detached: true,
    });
    // A program that does not read its input is told by its status.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input);
    let timedOut = false;
    const end = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      end();
    }, options.timeoutMs);
    options.signal?.addEventListener("abort", end, { once: true });
    if (options.signal?.aborted === true) end();
    const [stdout, stderr] = [child.stdout!, child.stderr!].map((stream) => {
      const chunks: Buffer[] = [];
      let total = 0;
      stream.on("data", (chunk: Buffer) => {
        if (total < keptBytes) chunks.push(chunk);
        total += chunk.length;
      });
      return () => Buffer.concat(chunks).toString("utf8");
    }) as [() => string, () => string];
    const done = (status: number | null, missing: boolean) => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", end);
      resolve({ status, stdout: stdout(), stderr: stderr(), timedOut, missing });
    };
    child.on("error", () => done(null, true));
    child.on("close", (status) => done(status, false));
  });
}
