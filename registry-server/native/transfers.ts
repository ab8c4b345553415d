import type { FileHandle } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { constants } from "node:os";
import { setImmediate as turn } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import { pump } from "../oci/pump.ts";
import { type Body, piecesOf, type Target, type Transfers } from "../transfers.ts";
import type { Addon, Done, Job } from "./addon.ts";
import { arrivals } from "./arrivals.ts";

/** What is smaller costs less through this process. */
const smallestSent = 64 << 10;
const smallestReceived = 256 << 10;
/** How often a connection on which bytes move is kept from its timeout, which is far longer. */
const keepEveryMs = 10_000;
/** For so long what a client sends after a refusal is read and dropped, so that it gets to read the answer. */
const lingerMs = 5000;

const { ECONNRESET, EINVAL, ENOSYS, EOPNOTSUPP, EPERM } = constants.errno;
/** The system does not do it for this file, or not at all. */
const refused = new Set<number>([EINVAL, ENOSYS, EOPNOTSUPP, EPERM]);

/** What Node's sockets have below; `readStart` and `readStop` return 0. */
interface Handle {
  readonly fd: number;
  readonly reading: boolean;
  readStart(): number;
  readStop(): number;
}

export function nativeTransfers(native: Addon): Transfers {
  const running = new Map<Job, { socket: Socket; progress: number }>();
  const keep = setInterval(() => {
    for (const [job, entry] of running) {
      const progress = native.progress(job);
      if (progress !== entry.progress) touch(entry.socket);
      entry.progress = progress;
    }
  }, keepEveryMs).unref();

  /** Runs a job until it says its result; undefined where the system refuses. A socket that closes, or the signal, ends it early. */
  async function run(socket: Socket, start: (done: Done) => Job, began: (job: Job) => void, signal?: AbortSignal) {
    const { promise, resolve } = Promise.withResolvers<{ error: number; moved: number }>();
    let job: Job;
    try {
      job = start((error, moved) => resolve({ error, moved }));
    } catch {
      // No descriptors left, for example.
      return undefined;
    }
    const cancel = () => native.cancel(job);
    running.set(job, { socket, progress: 0 });
    socket.once("close", cancel);
    signal?.addEventListener("abort", cancel);
    began(job);
    if (socket.destroyed || signal?.aborted === true) cancel();
    try {
      return { job, ...(await promise) };
    } finally {
      socket.off("close", cancel);
      signal?.removeEventListener("abort", cancel);
      running.delete(job);
      touch(socket);
    }
  }

  async function send(file: FileHandle, range: { start: number; end: number }, to: ServerResponse): Promise<number> {
    const length = range.end - range.start + 1;
    const { socket } = to;
    if (length < smallestSent || socket === null) return pump(file, range, to);
    to.flushHeaders();
    // What Node still has for the socket comes first.
    if (socket.writableLength > 0) await new Promise<void>((done) => void socket.write("", () => done()));
    const handle = handleOf(socket);
    if (handle === undefined || socket.writableLength > 0) return pump(file, range, to);
    const result = await run(
      socket,
      (done) => native.send(handle.fd, file.fd, range.start, length, done),
      () => {},
    );
    if (result === undefined || (result.moved === 0 && refused.has(result.error))) return pump(file, range, to);
    if (result.error === 0) to.end();
    // The head is out: all that is left to say is that this is not the whole.
    else to.destroy();
    return result.moved;
  }

  function body(request: IncomingMessage, response: ServerResponse): Body {
    const pieces = piecesOf(request);
    const length = Number(request.headers["content-length"] ?? 0);
    const { socket } = request;
    const handle = handleOf(socket);
    if (handle === undefined || request.headers["transfer-encoding"] !== undefined || length < smallestReceived) {
      return pieces;
    }
    const into = async (target: Target, signal: AbortSignal): Promise<boolean> => {
      const readAgain = stopReading(handle);
      let left = length;
      try {
        // A piece that the parser is at right now reaches the request in this turn.
        await turn();
        const held = drain(request);
        await target.keep(held);
        for (const piece of held) left -= piece.byteLength;
      } catch (error) {
        // Refused: what else comes is Node's.
        readAgain();
        throw error;
      }
      if (socket.destroyed || request.destroyed) throw cut();
      if (left > 0 && !request.complete) {
        // The parser waits for bytes that it will not see from here on: nothing can come after this request.
        if (await receive(request, left, target, signal, () => (response.shouldKeepAlive = false))) return true;
      }
      readAgain();
      return request.complete;
    };
    return { [Symbol.asyncIterator]: () => pieces[Symbol.asyncIterator](), direct: { length, into } };
  }

  async function receive(
    request: IncomingMessage,
    length: number,
    target: Target,
    signal: AbortSignal,
    began: () => void,
  ): Promise<boolean> {
    const { socket } = request;
    const { file, hash } = target;
    const handle = handleOf(socket);
    if (handle === undefined) throw cut();
    if (!(hash instanceof native.Sha256)) throw new TypeError("a hash of this addon is wanted");
    const arrival = { bytes: () => 0, ended: false };
    const result = await run(
      socket,
      (done) => native.receive(handle.fd, file.fd, target.position(), length, hash, done),
      (begun) => {
        arrival.bytes = () => native.progress(begun);
        arrivals.set(request, arrival);
        began();
      },
      signal,
    );
    if (result === undefined) return false;
    const { job, error, moved } = result;
    arrival.bytes = () => moved;
    arrival.ended = true;
    target.moved(moved);
    if (error === 0 && moved === length) return true;
    if (error === 0 || error === ECONNRESET) throw cut();
    setTimeout(() => native.cancel(job), lingerMs).unref();
    const code = getSystemErrorName(-error);
    throw Object.assign(new Error(`${code}: the body cannot be written`), { code, errno: -error });
  }

  return {
    kind: "native",
    createHash: () => new native.Sha256(),
    send,
    body,
    close: () => clearInterval(keep),
  };
}

/** Nothing makes Node read from it any more, whoever asks it to, until what is returned is called. */
function stopReading(handle: Handle): () => void {
  handle.readStop();
  handle.readStart = () => 0;
  return () => {
    Reflect.deleteProperty(handle, "readStart");
    if (handle.reading) handle.readStart();
  };
}

function drain(request: IncomingMessage): Uint8Array[] {
  const held: Uint8Array[] = [];
  for (let piece = request.read() as Buffer | null; piece !== null; piece = request.read() as Buffer | null) {
    held.push(piece);
  }
  return held;
}

/** Undefined where bytes are not those of the descriptor: TLS, and sockets that are none. */
function handleOf(socket: Socket): Handle | undefined {
  if (socket.destroyed || "encrypted" in socket) return undefined;
  const { _handle: handle } = socket as Socket & { _handle?: Partial<Handle> | null };
  return typeof handle?.fd === "number" && handle.fd >= 0 && typeof handle.readStop === "function"
    ? (handle as Handle)
    : undefined;
}

/** Its idle time starts anew. */
function touch(socket: Socket): void {
  if (!socket.destroyed && socket.timeout) socket.setTimeout(socket.timeout);
}

function cut(): Error {
  return Object.assign(new Error("the body ended before its announced end"), { code: "ECONNRESET" });
}
