/** The addon by itself, between real sockets and real files. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { constants } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { addon, type Job } from "../native/addon.ts";
import { temporaryFolder } from "./material.ts";

const native = addon();
const patience = { timeout: 60_000 };
const { ECONNRESET, ECANCELED, EBADF, ENODATA, ENOSPC, EPIPE } = constants.errno;

/** Two ends of one connection; nobody reads from either. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const far = connect({ port: (server.address() as { port: number }).port, host: "127.0.0.1" });
  const [near] = (await once(server, "connection")) as [Socket];
  for (const socket of [near, far]) socket.on("error", () => {});
  far.pause();
  server.close();
  onTestFinished(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

const descriptor = (socket: Socket) => (socket as Socket & { _handle: { fd: number } })._handle.fd;

function file(content?: Buffer, flags = content === undefined ? "w+" : "r"): { path: string; fd: number } {
  const path = join(temporaryFolder(), "file");
  if (content !== undefined) writeFileSync(path, content);
  const fd = openSync(path, flags);
  onTestFinished(() => closeSync(fd));
  return { path, fd };
}

interface Ended {
  readonly error: number;
  readonly moved: number;
}

function running(start: (done: (error: number, moved: number) => void) => Job): { job: Job; ended: Promise<Ended> } {
  const { promise: ended, resolve } = Promise.withResolvers<Ended>();
  return { job: start((error, moved) => resolve({ error, moved })), ended };
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

function receive(near: Socket, to: { fd: number }, length: number, position = 0, hash = new native.Sha256()) {
  return { hash, ...running((done) => native.receive(descriptor(near), to.fd, position, length, hash, done)) };
}

const send = (near: Socket, from: { fd: number }, offset: number, length: number) =>
  running((done) => native.send(descriptor(near), from.fd, offset, length, done));

async function readAll(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

test("a hash goes on between JavaScript and a body, and is Node's", async () => {
  const { near, far } = await pair();
  const to = file();
  const bytes = randomBytes(700_001);
  const hash = new native.Sha256();
  hash.update(bytes.subarray(0, 1000));
  far.write(bytes.subarray(1000));
  expect(await receive(near, to, bytes.length - 1000, 1000, hash).ended).toEqual({ error: 0, moved: 699_001 });
  hash.update(Buffer.from("and more"));
  expect(hash.digest("hex")).toBe(sha256(Buffer.concat([bytes, Buffer.from("and more")])));
  expect(readFileSync(to.path).subarray(1000).equals(bytes.subarray(1000))).toBe(true);
});

test("a body in small pieces arrives whole, and not a byte after it is read", async () => {
  const { near, far } = await pair();
  const to = file();
  const bytes = randomBytes(300_000);
  const { hash, ended } = receive(near, to, bytes.length);
  for (let at = 0; at < bytes.length; at += 7000) {
    far.write(bytes.subarray(at, at + 7000));
    await new Promise(setImmediate);
  }
  far.end("the next request");
  expect(await ended).toEqual({ error: 0, moved: bytes.length });
  expect(hash.digest("hex")).toBe(sha256(bytes));
  expect((await readAll(near)).toString()).toBe("the next request");
});

test("a body that ends early has moved what came", async () => {
  const { near, far } = await pair();
  const to = file();
  const { hash, ended } = receive(near, to, 1_000_000);
  far.end(Buffer.alloc(1234, 7));
  expect(await ended).toEqual({ error: 0, moved: 1234 });
  expect(hash.digest("hex")).toBe(sha256(Buffer.alloc(1234, 7)));
  expect(fstatSync(to.fd).size).toBe(1234);
});

test("a connection that is reset says so", async () => {
  const { near, far } = await pair();
  const { ended } = receive(near, file(), 1_000_000);
  far.resetAndDestroy();
  expect(await ended).toEqual({ error: ECONNRESET, moved: 0 });
});

test("bytes that wait below a whole piece are seen, and are kept when it is cancelled", async () => {
  const { near, far } = await pair();
  const to = file();
  const { job, hash, ended } = receive(near, to, 1_000_000);
  far.write(Buffer.alloc(5000, 3));
  await vi.waitFor(() => expect(native.progress(job)).toBe(5000), patience);
  native.cancel(job);
  expect((await ended).moved).toBe(5000);
  expect(hash.digest("hex")).toBe(sha256(Buffer.alloc(5000, 3)));
  // Harmless afterwards.
  native.cancel(job);
});

test("a socket that its owner closes is another's to close, and ends with its job", async () => {
  const { near, far } = await pair();
  const { job, ended } = receive(near, file(), 1_000_000);
  near.destroy();
  native.cancel(job);
  expect((await ended).moved).toBe(0);
  far.resume();
  await once(far, "close");
});

test("a file that cannot be written ends it at once, and the rest of the body is read and dropped", async () => {
  const full = { fd: openSync("/dev/full", "w") };
  onTestFinished(() => closeSync(full.fd));
  for (const [to, error] of [
    [full, ENOSPC],
    [file(Buffer.alloc(1)), EBADF],
  ] as const) {
    const { near, far } = await pair();
    const { ended } = receive(near, to, 20_000_000);
    far.write(Buffer.alloc(1_000_000));
    expect(await ended).toEqual({ error, moved: 0 });
    // More than any buffer between the two holds.
    await new Promise((written) => far.write(Buffer.alloc(19_000_000), written));
    near.end("the answer");
    expect((await readAll(far)).toString()).toBe("the answer");
  }
});

test("a part of a file goes out, also to a reader that is slow to begin", async () => {
  const bytes = randomBytes(20_000_000);
  const { near, far } = await pair();
  const { job, ended } = send(near, file(bytes), 1, bytes.length - 2);
  // The buffers between the two are full, and nothing moves any more.
  let before = -1;
  await vi.waitFor(() => {
    const now = native.progress(job);
    const still = now > 0 && now === before;
    before = now;
    expect(still).toBe(true);
  }, patience);
  const all = readAll(far);
  expect(await ended).toEqual({ error: 0, moved: bytes.length - 2 });
  near.end();
  expect((await all).equals(bytes.subarray(1, -1))).toBe(true);
});

test("a reader that goes away ends it", async () => {
  const { near, far } = await pair();
  const { ended } = send(near, file(Buffer.alloc(50_000_000)), 0, 50_000_000);
  far.resetAndDestroy();
  const { error, moved } = await ended;
  expect([EPIPE, ECONNRESET]).toContain(error);
  expect(moved).toBeLessThan(50_000_000);
});

test("a job that waits for its reader is cancelled, and the file is free afterwards", async () => {
  const { near } = await pair();
  const { job, ended } = send(near, file(Buffer.alloc(50_000_000)), 0, 50_000_000);
  native.cancel(job);
  expect([EPIPE, ECANCELED]).toContain((await ended).error);
});

test("a file that ends before its size is an error", async () => {
  const { near, far } = await pair();
  far.resume();
  expect(await send(near, file(Buffer.alloc(100_000)), 0, 200_000).ended).toEqual({ error: ENODATA, moved: 100_000 });
});

test("more jobs than threads, each waiting for its own reader, all end", async () => {
  const bytes = randomBytes(8_000_000);
  const from = file(bytes);
  const pairs = await Promise.all(Array.from({ length: 32 }, pair));
  const sends = pairs.map(({ near }) => send(near, from, 0, bytes.length));
  // The last ones read first.
  for (const { far, near } of pairs.toReversed()) {
    const all = readAll(far);
    const { ended } = sends[pairs.findIndex((one) => one.far === far)]!;
    expect(await ended).toEqual({ error: 0, moved: bytes.length });
    near.end();
    expect((await all).equals(bytes)).toBe(true);
  }
});

test("what is no socket is refused", () => {
  const to = file();
  expect(() => native.send(-1, to.fd, 0, 1, () => {})).toThrow(/fcntl/);
  // A plain file cannot be waited for.
  expect(() => native.receive(to.fd, to.fd, 0, 1, new native.Sha256(), () => {})).toThrow(/epoll_ctl/);
});
