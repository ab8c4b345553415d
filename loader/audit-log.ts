/**
 * The load audit log: one JSON line for each kernel that was loaded or refused and for each run, each naming the digest
 * of the line before it. Whoever keeps a head (count and digest) elsewhere can tell later that nothing before it was
 * changed, removed or put in. The log alone cannot show that its end was cut off: that is what forwarded heads are for.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import {
  canonicalJson,
  type Digest,
  digestOf,
  fail,
  isDigest,
  KernlockError,
  parseStrictJson,
} from "@kernlock/kernels/format";
import { checkCall } from "@kernlock/policies/trust";
import { z } from "zod";
import { checkPath } from "./border.ts";

/** Where a log stands: forward it, print it, keep it. */
export interface AuditHead {
  /** Lines. */
  readonly count: number;
  /** Of the last line's bytes; of nothing for an empty log. */
  readonly digest: Digest;
}

const headShape = z.object({
  count: z.int().nonnegative(),
  digest: z.custom<Digest>((value) => isDigest(String(value))),
});
export const emptyAuditHead: AuditHead = { count: 0, digest: digestOf("") };

/** Lines are small; more than this from the end always holds a whole one. */
const maxLineBytes = 1 << 20;
const lockWaitMs = 10_000;

/**
 * Appends one entry, durable when it returns. Entries of several processes follow each other in some order.
 *
 * @throws KL_AUDIT_WRITE: what could not be recorded must not happen; KL_AUDIT_CHAIN: the log's end is not a line of it
 */
export function appendAudit(path: string, entry: Readonly<Record<string, unknown>>): AuditHead {
  checkPath("appendAudit", path);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return locked(`${path}.lock`, () => append(path, entry));
  } catch (error) {
    if (error instanceof KernlockError) throw error;
    return fail("KL_AUDIT_WRITE", `The load could not be recorded in ${path} (${codeOf(error)}).`, {
      remedy: "Make the folder writable, or set XDG_STATE_HOME to one that is.",
      cause: error,
    });
  }
}

function append(path: string, entry: Readonly<Record<string, unknown>>): AuditHead {
  const file = openSync(path, "a+", 0o600);
  try {
    const before = lastLine(file);
    const head = before === null ? emptyAuditHead : { count: readEntry(before).sequence, digest: digestOf(before) };
    const line = canonicalJson({ ...entry, sequence: head.count + 1, previous: head.digest });
    writeAll(file, Buffer.from(`${line}\n`));
    fsyncSync(file);
    return { count: head.count + 1, digest: digestOf(line) };
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}

/** The last line without its line feed, null in an empty file. A line that a crash cut short is refused, not passed over. */
function lastLine(file: number): string | null {
  const { size } = statSync(`/proc/self/fd/${file}`);
  if (size === 0) return null;
  const tail = Buffer.alloc(Math.min(size, maxLineBytes));
  readSync(file, tail, 0, tail.length, size - tail.length);
  const text = tail.toString("utf8");
  if (!text.endsWith("\n")) broken("its last line is cut short");
  const start = text.lastIndexOf("\n", text.length - 2) + 1;
  if (start === 0 && size > tail.length) broken("its last line is too long");
  return text.slice(start, -1);
}

function readEntry(line: string): { readonly sequence: number; readonly previous: Digest } {
  let json: unknown;
  try {
    json = parseStrictJson(line, { what: "a line of the audit log" });
  } catch {
    return broken("a line is not strict JSON");
  }
  const { sequence, previous } = json as { sequence?: unknown; previous?: unknown };
  if (!Number.isSafeInteger(sequence) || typeof previous !== "string" || !isDigest(previous))
    return broken("a line has no place in the chain");
  return { sequence: sequence as number, previous };
}

function broken(why: string, details: Readonly<Record<string, unknown>> = {}): never {
  return fail("KL_AUDIT_CHAIN", `The audit log does not hold together: ${why}.`, {
    remedy: "Find out who changed it, and move the file away as evidence: the next load starts a new one.",
    details,
  });
}

/**
 * Reads a whole log and checks the chain. With a head that was kept elsewhere, also that the log still begins with
 * everything up to it.
 *
 * @throws KL_AUDIT_READ, KL_AUDIT_CHAIN (details.line is the first line that does not fit), KL_AUDIT_HEAD
 */
export function verifyAuditLog(path: string, kept?: AuditHead): AuditHead {
  checkPath("verifyAuditLog", path);
  if (kept !== undefined) checkCall("verifyAuditLog", headShape, kept);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    return fail("KL_AUDIT_READ", `The audit log ${path} cannot be read (${codeOf(error)}).`, {
      remedy: "Name a log with --file.",
      cause: error,
    });
  }
  if (text !== "" && !text.endsWith("\n")) broken("its last line is cut short");
  let head = emptyAuditHead;
  let met = kept === undefined || same(head, kept);
  for (const line of text.split("\n").slice(0, -1)) {
    const { sequence, previous } = readEntry(line);
    if (sequence !== head.count + 1 || previous !== head.digest)
      broken(`line ${head.count + 1} does not follow the one before it`, { line: head.count + 1 });
    head = { count: sequence, digest: digestOf(line) };
    met ||= kept !== undefined && same(head, kept);
  }
  if (!met)
    fail("KL_AUDIT_HEAD", `The audit log does not contain the kept head of ${kept?.count} lines.`, {
      remedy: "Lines were removed or replaced since that head was kept: find out by whom.",
      details: { count: head.count, digest: head.digest },
    });
  return head;
}

const same = (a: AuditHead, b: AuditHead): boolean => a.count === b.count && a.digest === b.digest;
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "unknown error";

/** One writer at a time. A lock whose owner is gone is taken over. */
function locked<T>(lock: string, use: () => T): T {
  const deadline = Date.now() + lockWaitMs;
  for (;;) {
    try {
      const file = openSync(lock, "wx", 0o600);
      writeSync(file, `${process.pid}`);
      closeSync(file);
      break;
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
      if (!ownerLives(lock)) rmSync(lock, { force: true });
      else if (Date.now() > deadline) throw error;
      else pause(5 + Math.random() * 20);
    }
  }
  try {
    return use();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** A load waits for its line to be written, so this waits in place. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function ownerLives(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, "utf8"));
    // An empty file is a lock that is being made right now.
    if (!(pid > 0)) return Date.now() - statSync(lock).mtimeMs < lockWaitMs;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: somebody else's process, alive.
    return codeOf(error) === "EPERM";
  }
}
