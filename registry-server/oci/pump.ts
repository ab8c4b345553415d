/**
 * Sends a range of a file through two buffers that are used again once the socket has taken them. A stream would
 * allocate a fresh buffer for every piece, and the page faults of those cost more than half of the speed.
 */
import type { FileHandle } from "node:fs/promises";
import type { ServerResponse } from "node:http";

/** Large buffers for a few downloads, small ones for the many: what 64 of them hold stays at 15 MiB. */
const large = pool(512 << 10, 16);
const small = pool(64 << 10, 128);

/** Sends bytes `start` to `end` (inclusive) and ends the response. A file that ends early cuts the connection. */
export async function pump(
  file: FileHandle,
  range: { start: number; end: number },
  to: ServerResponse,
): Promise<number> {
  const from = range.end - range.start >= small.bytes && large.takes(2) ? large : small;
  const buffers = [from.take(), from.take()];
  const written: (Promise<void> | undefined)[] = [undefined, undefined];
  let position = range.start;
  try {
    for (let turn = 0; position <= range.end && !to.destroyed; turn ^= 1) {
      await written[turn];
      const wanted = Math.min(from.bytes, range.end - position + 1);
      const { bytesRead } = await file.read(buffers[turn]!, 0, wanted, position);
      if (bytesRead === 0) throw new Error("the file ends before its size");
      position += bytesRead;
      const sent = write(to, buffers[turn]!.subarray(0, bytesRead));
      // Whoever awaits it sees the error; nobody else has to.
      sent.catch(() => {});
      written[turn] = sent;
    }
    await Promise.all(written);
    to.end();
  } catch {
    // The head is out: all that is left to say is that this is not the whole.
    to.destroy();
  } finally {
    await Promise.allSettled(written);
    for (const buffer of buffers) from.giveBack(buffer);
  }
  return position - range.start;
}

/**
 * Buffers that are kept for good, as freed ones of this size leave holes in the process that it never gives back. Beyond
 * `kept` they are made and dropped.
 */
function pool(bytes: number, kept: number) {
  const idle: Buffer[] = [];
  let out = 0;
  return {
    bytes,
    takes: (count: number) => out + count <= kept,
    take() {
      out++;
      return idle.pop() ?? Buffer.allocUnsafeSlow(bytes);
    },
    giveBack(buffer: Buffer) {
      out--;
      if (idle.length < kept) idle.push(buffer);
    },
  };
}

/** Resolves when the bytes have left for the socket; rejects when they never will. */
function write(to: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise((done, failed) => {
    const gone = () => failed(new Error("the client went away"));
    if (to.destroyed) return gone();
    to.once("close", gone);
    to.write(bytes, (error) => {
      to.off("close", gone);
      if (error) failed(error);
      else done();
    });
  });
}
