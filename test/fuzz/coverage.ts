/** Which lines of our own sources ran, told by V8 itself; types are stripped in place, so its offsets are the sources'. */
import { readFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(import.meta.dirname, "../..");

/** The parsers of hostile bytes, whose coverage is told. */
export const parsers =
  /^(kernels\/format\/(json|variant|launch|schema|workspace)|kernels\/inspect\/[a-z-]+|kernels\/oci\/documents|loader\/(lock|manifest)|policies\/trust\/(policy|verify|shape|keys|policy\/(schema|yaml)|verify\/[a-z-]+)|registry-server\/(oci\/(names|ranges)|oidc\/jwt|tokens))\.ts$/;

export interface Coverage {
  /** True when something ran that never did before. */
  take(): Promise<boolean>;
  /** By file, of the parsers: lines that ran, and lines with code. */
  lines(): Readonly<Record<string, LineCoverage>>;
}

export interface LineCoverage {
  readonly ran: readonly number[];
  readonly all: readonly number[];
}

/** Call it before the sources are imported: what ran earlier is not known. */
export async function startCoverage(): Promise<Coverage> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  const seen = new Set<string>();
  const ran = new Map<string, Uint8Array>();
  return {
    async take() {
      const { result } = await session.post("Profiler.takePreciseCoverage");
      let fresh = false;
      for (const { url, functions } of result) {
        if (!url.startsWith("file:") || url.includes("/node_modules/")) continue;
        const name = relative(root, fileURLToPath(url));
        if (!parsers.test(name)) continue;
        const size = Math.max(...functions.flatMap(({ ranges }) => ranges.map(({ endOffset }) => endOffset)));
        const whole = ran.get(name) ?? new Uint8Array(readFileSync(fileURLToPath(url), "utf8").length + 1);
        ran.set(name, whole);
        const now = new Uint8Array(size);
        for (const { startOffset, endOffset, count } of functions.flatMap(({ ranges }) => ranges)) {
          now.fill(count > 0 ? 1 : 0, startOffset, endOffset);
          if (count === 0) continue;
          const key = `${name} ${startOffset} ${endOffset}`;
          if (!seen.has(key)) fresh = true;
          seen.add(key);
        }
        for (let i = 0; i < size; i++) if (now[i]) whole[i] = 1;
      }
      return fresh;
    },
    lines: () => Object.fromEntries([...ran].map(([name, mask]) => [name, linesOf(name, mask)])),
  };
}

/** Lines with code are those that are neither blank nor comment nor punctuation alone. */
function linesOf(name: string, mask: Uint8Array): LineCoverage {
  const text = readFileSync(resolve(root, name), "utf8");
  const lines = { ran: [] as number[], all: [] as number[] };
  let at = 0;
  for (const [n, line] of text.split("\n").entries()) {
    const first = line.search(/\S/);
    if (first >= 0 && !/^\s*(\/\/|\/?\*|[)\]}>,;]+$)/.test(line)) {
      lines.all.push(n + 1);
      if (mask[at + first]) lines.ran.push(n + 1);
    }
    at += line.length + 1;
  }
  return lines;
}
