/** Large bodies and large blobs, both past this process and through it: what a client sees is the same. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { constants } from "node:os";
import { join } from "node:path";
import { digestOf, fail } from "@kernlock/kernels/format";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { RegistryOptions } from "../index.ts";
import { type Addon, addon, type Job } from "../native/addon.ts";
import { openTransfers } from "../transfers.ts";
import {
  bearer,
  putBlob,
  refusal,
  startRegistry,
  stored,
  type TestRegistry,
  temporaryFolder,
  unfinished,
} from "./material.ts";

const MiB = 2 ** 20;
const bytes = randomBytes(3 * MiB + 12_345);
const patience = { timeout: 60_000 };

const blobPath = (content: Uint8Array) => `/v2/acme/norm/blobs/${digestOf(content)}`;

/** A connection on which everything that is answered is kept. */
async function dial(at: TestRegistry): Promise<{ socket: Socket; answer: () => string; closed: Promise<unknown> }> {
  const socket = connect(Number(new URL(at.origin).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  let answer = "";
  socket.on("data", (part) => (answer += part.toString("latin1"))).on("error", () => {});
  const closed = once(socket, "close");
  await once(socket, "connect");
  return { socket, answer: () => answer, closed };
}

const head = (at: TestRegistry, line: string, length: number, more = "") =>
  `${line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.write}\r\nContent-Length: ${length}\r\n${more}\r\n`;
const postLine = (content: Uint8Array) => `POST /v2/acme/norm/blobs/uploads/?digest=${digestOf(content)}`;

async function begin(at: TestRegistry): Promise<string> {
  const answer = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.write) });
  return answer.headers.get("location")!;
}

/** How much of an upload has arrived, once nobody writes to it any more. */
async function received(at: TestRegistry, path: string): Promise<number> {
  return await vi.waitFor(async () => {
    const status = await fetch(at.origin + path, { headers: bearer(at.write) });
    expect(status.status).toBe(204);
    return Number(status.headers.get("range")!.split("-")[1]) + 1;
  }, patience);
}

const send = (at: TestRegistry, method: string, path: string, body: Uint8Array, headers: Record<string, string> = {}) =>
  fetch(at.origin + path, {
    method,
    headers: { ...bearer(at.write), ...headers },
    body: new Uint8Array(body),
  });

async function goesOn(at: TestRegistry, path: string, from: number): Promise<void> {
  const answer = await send(at, "PUT", `${path}?digest=${digestOf(bytes)}`, bytes.subarray(from));
  expect(answer.status).toBe(201);
  expect(unfinished(at)).toEqual([]);
  const back = await fetch(at.origin + blobPath(bytes), { headers: bearer(at.write) });
  expect(bytes.equals(Buffer.from(await back.arrayBuffer()))).toBe(true);
}

describe.each(["native", "javascript"] as const)("%s", (transfers) => {
  const start = (options: Partial<RegistryOptions> = {}) => startRegistry({ transfers, ...options });

  test.each([256 << 10, (256 << 10) + 1, 1_000_003])("one POST of %i bytes", async (n) => {
    const at = await start();
    const some = bytes.subarray(0, n);
    const answer = await putBlob(at, at.write, "acme/norm", some);
    expect(answer.status).toBe(201);
    expect(answer.headers.get("docker-content-digest")).toBe(digestOf(some));
    const file = join(at.folder, "blobs", ...digestOf(some).split(":"));
    expect(readFileSync(file).equals(some)).toBe(true);
    expect(unfinished(at)).toEqual([]);
  });

  test("one POST with a sha512", async () => {
    const at = await start();
    const digest = `sha512:${createHash("sha512").update(bytes).digest("hex")}`;
    expect((await send(at, "POST", `/v2/acme/norm/blobs/uploads/?digest=${digest}`, bytes)).status).toBe(201);
    const back = await fetch(`${at.origin}/v2/acme/norm/blobs/${digest}`, { headers: bearer(at.write) });
    expect(bytes.equals(Buffer.from(await back.arrayBuffer()))).toBe(true);
  });

  test("chunks, large and small in turn, and the last with the digest", async () => {
    const at = await start();
    const path = await begin(at);
    const cuts = [0, 700_000, 700_010, 1_800_000];
    for (const [i, from] of cuts.entries()) {
      const to = cuts[i + 1];
      if (to === undefined) break;
      const answer = await send(at, "PATCH", path, bytes.subarray(from, to), { "content-range": `${from}-${to - 1}` });
      expect([answer.status, answer.headers.get("range")]).toEqual([202, `0-${to - 1}`]);
    }
    await goesOn(at, path, 1_800_000);
  });

  test("a body that ends early is refused, and the upload goes on where it ended", async () => {
    const at = await start();
    const path = await begin(at);
    const { socket, answer, closed } = await dial(at);
    socket.end(Buffer.concat([Buffer.from(head(at, `PATCH ${path}`, bytes.length)), bytes.subarray(0, 2_000_000)]));
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer()).toContain("KL_REGISTRY_UPLOAD_CUT");
    const arrived = await received(at, path);
    // Node drops what nobody has taken yet of a request that it gives up.
    if (transfers === "native") expect(arrived).toBe(2_000_000);
    else expect(arrived).toBeLessThanOrEqual(2_000_000);
    await goesOn(at, path, arrived);
  });

  test("a connection that breaks leaves an upload that goes on", async () => {
    const at = await start();
    const path = await begin(at);
    const { socket, closed } = await dial(at);
    socket.write(Buffer.from(head(at, `PATCH ${path}`, bytes.length)));
    await new Promise((written) => socket.write(bytes.subarray(0, 2_000_000), written));
    socket.resetAndDestroy();
    await closed;
    const arrived = await received(at, path);
    expect(arrived).toBeLessThanOrEqual(2_000_000);
    await goesOn(at, path, arrived);
  });

  test("an upload in one request that is cut leaves nothing", async () => {
    const at = await start();
    const { socket, closed } = await dial(at);
    socket.write(Buffer.from(head(at, postLine(bytes), bytes.length)));
    await new Promise((written) => socket.write(bytes.subarray(0, 2_000_000), written));
    socket.resetAndDestroy();
    await closed;
    await vi.waitFor(() => expect(unfinished(at)).toEqual([]), patience);
    expect(stored(at)).toEqual([]);
  });

  test("what follows a body is never part of it, nor a request of somebody else's", async () => {
    const at = await start();
    const { socket, answer, closed } = await dial(at);
    const hidden = `DELETE ${blobPath(bytes)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${at.write}\r\n\r\n`;
    socket.write(Buffer.concat([Buffer.from(head(at, postLine(bytes), bytes.length)), bytes, Buffer.from(hidden)]));
    await closed;
    const answers = answer()
      .match(/HTTP\/1\.1 \d+/g)
      ?.map((line) => line.slice(9));
    // A connection that is known to end here is not read on.
    expect(answers).toEqual(transfers === "native" ? ["201"] : ["201", "405"]);
    expect(stored(at)).toHaveLength(1);
  });

  test("a body that is larger than announced does not become a blob of another digest", async () => {
    const at = await start();
    const { socket, answer, closed } = await dial(at);
    socket.write(Buffer.concat([Buffer.from(head(at, postLine(bytes), bytes.length - 9)), bytes]));
    socket.end();
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 400 .*KL_REGISTRY_(DIGEST_MISMATCH|BAD_REQUEST)/s);
    await vi.waitFor(() => expect([stored(at), unfinished(at)]).toEqual([[], []]), patience);
  });

  test("Expect: 100-continue is answered before the body", async () => {
    const at = await start();
    const { socket, answer, closed } = await dial(at);
    socket.write(head(at, postLine(bytes), bytes.length, "Expect: 100-continue\r\nConnection: close\r\n"));
    await vi.waitFor(() => expect(answer()).toMatch(/^HTTP\/1\.1 100 /), patience);
    socket.write(bytes);
    await closed;
    expect(answer()).toMatch(/HTTP\/1\.1 201 /);
  });

  test("a body without a length", async () => {
    const at = await start();
    const body = new ReadableStream({
      start(controller) {
        for (let i = 0; i < bytes.length; i += 100_000)
          controller.enqueue(new Uint8Array(bytes.subarray(i, i + 100_000)));
        controller.close();
      },
    });
    const answer = await fetch(`${at.origin}${postLine(bytes).slice(5)}`, {
      method: "POST",
      headers: bearer(at.write),
      body,
      duplex: "half",
    } as RequestInit);
    expect(answer.status).toBe(201);
  });

  test("two requests on one connection, of which the first is answered first", async () => {
    const at = await start();
    const { socket, answer, closed } = await dial(at);
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write(Buffer.concat([Buffer.from(head(at, postLine(bytes), bytes.length, "Connection: close\r\n")), bytes]));
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 200 .*HTTP\/1\.1 201 /s);
  });

  test("other bytes than announced, and more than is taken, are refused with their codes", async () => {
    const at = await start({ maxBlobBytes: 2 * MiB });
    const wrong = send(at, "POST", `/v2/acme/norm/blobs/uploads/?digest=${digestOf("others")}`, bytes.subarray(0, MiB));
    expect(await refusal(wrong)).toEqual([400, "DIGEST_INVALID", "KL_REGISTRY_DIGEST_MISMATCH"]);
    const { socket, answer } = await dial(at);
    socket.write(Buffer.concat([Buffer.from(head(at, postLine(bytes), bytes.length)), bytes]));
    await vi.waitFor(() => expect(answer()).toMatch(/^HTTP\/1\.1 413 .*KL_REGISTRY_BLOB_TOO_LARGE/s), patience);
    await vi.waitFor(() => expect([stored(at), unfinished(at)]).toEqual([[], []]), patience);
  });

  test("a body that stalls is cut, and the upload goes on where it stalled", async () => {
    const at = await start({ bodyFloor: { bytesPerSecond: 1000, seconds: 1 } });
    const path = await begin(at);
    const { socket, answer, closed } = await dial(at);
    socket.write(head(at, `PATCH ${path}`, bytes.length));
    // Not a multiple of anything: the last of it waits to become a whole piece.
    socket.write(bytes.subarray(0, 1_234_567));
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 408 .*KL_REGISTRY_TOO_SLOW/s);
    const arrived = await received(at, path);
    expect(arrived).toBe(1_234_567);
    await goesOn(at, path, arrived);
  });

  test("a body that comes slowly, but not too slowly, is not cut", async () => {
    const at = await start({ bodyFloor: { bytesPerSecond: 100, seconds: 1 } });
    const { socket, answer, closed } = await dial(at);
    const some = bytes.subarray(0, 300_000);
    socket.write(head(at, postLine(some), some.length, "Connection: close\r\n"));
    socket.write(some.subarray(0, 270_000));
    let sent = 270_000;
    const timer = setInterval(() => {
      socket.write(some.subarray(sent, sent + 1000));
      sent += 1000;
      if (sent >= some.length) clearInterval(timer);
    }, 100);
    onTestFinished(() => clearInterval(timer));
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 201 /);
  });

  test("a server that stops in the middle of bodies and blobs ends, and keeps nothing half", async () => {
    const at = await start();
    expect((await putBlob(at, at.write, "acme/norm", bytes)).status).toBe(201);
    const up = await dial(at);
    const others = randomBytes(MiB);
    up.socket.write(head(at, postLine(others), others.length));
    up.socket.write(others.subarray(0, 600_000));
    const down = await dial(at);
    down.socket.pause();
    down.socket.write(head(at, `GET ${blobPath(bytes)}`, 0));
    await vi.waitFor(() => expect(unfinished(at)).toHaveLength(1), patience);
    await at.registry.close(0.2);
    down.socket.resume();
    await Promise.all([up.closed, down.closed]);
    expect(unfinished(at)).toEqual([]);
    expect(stored(at)).toHaveLength(1);
  });

  test("a blob comes whole and in ranges on one connection", async () => {
    const at = await start();
    await putBlob(at, at.write, "acme/norm", bytes);
    for (const [range, status, from, to] of [
      [undefined, 200, 0, bytes.length],
      ["bytes=1000000-1999999", 206, 1_000_000, 2_000_000],
      ["bytes=-100000", 206, bytes.length - 100_000, bytes.length],
      ["bytes=5-9", 206, 5, 10],
    ] as const) {
      const headers = { ...bearer(at.write), ...(range === undefined ? {} : { range }) };
      const answer = await fetch(at.origin + blobPath(bytes), { headers });
      expect([answer.status, answer.headers.get("content-length")]).toEqual([status, String(to - from)]);
      expect(bytes.subarray(from, to).equals(Buffer.from(await answer.arrayBuffer()))).toBe(true);
    }
    const { socket, answer } = await dial(at);
    const get = head(at, `GET ${blobPath(bytes)}`, 0, "Range: bytes=0-99999\r\n");
    // Asked before the first is answered.
    socket.write(get + get);
    const whole = () =>
      answer()
        .split("HTTP/1.1 206 ")
        .map((one) => one.split("\r\n\r\n")[1]);
    await vi.waitFor(() => expect(whole().map((one) => one?.length)).toEqual([undefined, 100_000, 100_000]), patience);
    expect(new Set(whole().slice(1))).toEqual(new Set([bytes.subarray(0, 100_000).toString("latin1")]));
    socket.write(head(at, `HEAD ${blobPath(bytes)}`, 0));
    await vi.waitFor(() => expect(answer()).toContain(`content-length: ${bytes.length}`), patience);
  });

  test("many slow readers at once, some of whom go away, keep nobody waiting", async () => {
    const at = await start();
    await putBlob(at, at.write, "acme/norm", bytes);
    const slow = await Promise.all(Array.from({ length: 24 }, () => dial(at)));
    for (const { socket } of slow) {
      socket.pause();
      socket.write(head(at, `GET ${blobPath(bytes)}`, 0, "Connection: close\r\n"));
    }
    const quick = await fetch(at.origin + blobPath(bytes), { headers: bearer(at.write) });
    expect(bytes.equals(Buffer.from(await quick.arrayBuffer()))).toBe(true);
    for (const [i, { socket }] of slow.entries()) {
      if (i % 2 === 0) socket.resetAndDestroy();
      else socket.resume();
    }
    await Promise.all(slow.map(({ closed }) => closed));
    for (const [i, { answer }] of slow.entries()) {
      if (i % 2 === 1) expect(answer().split("\r\n\r\n")[1]?.length).toBe(bytes.length);
    }
    const connections = () => new Promise<number>((done) => at.registry.app.server.getConnections((_, n) => done(n)));
    await vi.waitFor(async () => expect(await connections()).toBeLessThan(3), patience);
  });

  test("a reader that stalls is let go", async () => {
    const at = await start();
    const large = Buffer.alloc(40 * MiB);
    await putBlob(at, at.write, "acme/norm", large);
    const { server } = at.registry.app;
    server.timeout = 500;
    const accepted = once(server, "connection");
    const { socket, answer, closed } = await dial(at);
    const [theirs] = (await accepted) as [Socket];
    socket.pause();
    socket.write(head(at, `GET ${blobPath(large)}`, 0));
    if (!theirs.closed) await once(theirs, "close");
    socket.resume();
    await closed;
    expect(answer().length).toBeLessThan(large.length);
  });

  test("a blob that became shorter while it was sent cuts the connection", async () => {
    const at = await start();
    const large = Buffer.alloc(40 * MiB);
    await putBlob(at, at.write, "acme/norm", large);
    const { socket, answer, closed } = await dial(at);
    socket.pause();
    socket.write(head(at, `GET ${blobPath(large)}`, 0));
    await vi.waitFor(() => expect(socket.readableLength).toBeGreaterThan(0), patience);
    truncateSync(join(at.folder, "blobs", ...digestOf(large).split(":")), 30 * MiB);
    socket.resume();
    await closed;
    expect(answer()).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer().length).toBeLessThan(large.length);
  });
});

test("where the addon cannot be had, a registry goes the other way and says why, unless it must not", () => {
  const without = () => fail("KL_ADDON_COMPILER", "No C++ compiler was found.");
  expect(openTransfers("auto", without)).toMatchObject({ kind: "javascript", reason: "No C++ compiler was found." });
  expect(() => openTransfers("native", without)).toThrow("No C++ compiler was found.");
  expect(openTransfers("javascript", without)).toMatchObject({ kind: "javascript" });
  const found = openTransfers();
  onTestFinished(() => found.close());
  expect(found).toMatchObject({ kind: "native" });
});

test("where the system refuses, bytes go through this process", async () => {
  const refusing: Addon = {
    ...addon(),
    send(_socket, _file, _offset, _length, done) {
      // As a file system that cannot do it says.
      setImmediate(done, constants.errno.EINVAL, 0);
      return {} as Job;
    },
    receive() {
      throw new Error("fcntl: Too many open files");
    },
    progress: () => 0,
    cancel() {},
  };
  const transfers = openTransfers("native", () => refusing);
  onTestFinished(() => transfers.close());
  const path = join(temporaryFolder(), "file");
  writeFileSync(path, bytes);
  const came: Uint8Array[] = [];
  const server = createServer(async (request, response) => {
    const file = await open(path);
    const body = transfers.body(request, response);
    const target = {
      file,
      hash: transfers.createHash(),
      position: () => 0,
      keep: async (held: readonly Uint8Array[]) => void came.push(...held),
      moved() {},
    };
    expect(await body.direct?.into(target, new AbortController().signal)).toBe(false);
    for await (const piece of body) came.push(piece);
    response.writeHead(200, { "content-length": bytes.length });
    expect(await transfers.send(file, { start: 0, end: bytes.length - 1 }, response)).toBe(bytes.length);
    await file.close();
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const answer = await fetch(address, { method: "POST", body: new Uint8Array(bytes) });
  expect(bytes.equals(Buffer.concat(came))).toBe(true);
  expect(bytes.equals(Buffer.from(await answer.arrayBuffer()))).toBe(true);
});
