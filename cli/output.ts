import type { KernlockError } from "@kernlock/kernels/format";

/**
 * Where a command's words go. With `--json`, stdout holds the result alone, and everything said on the way goes to
 * stderr; without it, both are for people.
 */
export interface Output {
  readonly json: boolean;
  /** The result: an object with `--json`, text otherwise. */
  result(value: unknown, text: () => string): void;
  /** A line on the way: progress, plan, log. */
  note(line: string): void;
  /** A line that replaces itself on a terminal and stays quiet in a pipe. */
  progress(line: string): void;
  error(error: KernlockError): void;
}

export function createOutput(json: boolean, stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream): Output {
  let transient = false;
  const clear = (): void => {
    if (transient) stderr.write("\r\u001b[2K");
    transient = false;
  };
  return {
    json,
    result(value, text) {
      clear();
      stdout.write(json ? `${JSON.stringify(value)}\n` : text());
    },
    note(line) {
      clear();
      stderr.write(`${line}\n`);
    },
    progress(line) {
      if (!stderr.isTTY) return;
      clear();
      stderr.write(line.slice(0, Math.max(20, (stderr.columns ?? 80) - 1)));
      transient = true;
    },
    error(error) {
      clear();
      if (json) stdout.write(`${JSON.stringify({ error: errorJson(error) })}\n`);
      else stderr.write(errorText(error));
      if (process.env.KERNLOCK_DEBUG === "1") stderr.write(`${error.stack ?? ""}\n${causeText(error)}`);
    },
  };
}

export function errorJson(error: KernlockError): Record<string, unknown> {
  return { ...error.toJSON(), remedy: error.remedy ?? null };
}

function errorText(error: KernlockError): string {
  const remedy = error.remedy === undefined ? "" : `  ${error.remedy}\n`;
  return `kernlock: [${error.code}] ${error.message}\n${remedy}`;
}

function causeText(error: KernlockError): string {
  return error.cause instanceof Error ? `caused by ${error.cause.stack ?? error.cause.message}\n` : "";
}

/** Columns padded to their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (widest, row) => row.map((cell, i) => Math.max(widest[i] ?? 0, cell.length)),
    [],
  );
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}
