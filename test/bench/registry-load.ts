/** The other side of `bench:registry`: one task a process, pinned by whoever starts it. Prints its result as JSON. */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";

export type Task =
  /** Asks for one path again and again, over so many connections, until `milliseconds` are over. */
  | { kind: "get"; port: number; path: string; connections: number; milliseconds: number }
  /** Each client takes the path once; meanwhile something small is asked for every 20 ms. */
  | { kind: "pull"; port: number; path: string; clients: number; probe: string }
  | { kind: "put"; port: number; path: string; token: string; bytes: number; first: number; count: number }
  /** Writes, hashes and syncs what `put` sends, into a file of its own. */
  | { kind: "write"; file: string; bytes: number; first: number; count: number };

export interface Result {
  readonly requests: number;
  readonly bytes: number;
  readonly milliseconds: number;
  /** Milliseconds of processor time of this process meanwhile. */
  readonly processor: number;
  /** `put` and `write`: of each. `pull`: of each probe. */
  readonly each: readonly number[];
}

const piece = 1 << 20;

/** One connection that sends the same request until `more` says no. Resolves to the number of bytes of bodies. */
function repeat(port: number, path: string, more: () => boolean): Promise<{ requests: number; bytes: number }> {
  const wanted = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`);
  return new Promise((done, failed) => {
    const seen = { requests: 0, bytes: 0 };
    let head = "";
    let left = -1;
    const socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        // The same memory for whatever arrives: the load must cost less than what it measures.
        buffer: Buffer.alloc(piece),
        callback(length, buffer) {
          let body = length;
          if (left < 0) {
            head += Buffer.from(buffer.buffer, buffer.byteOffset, length).toString("latin1");
            const end = head.indexOf("\r\n\r\n");
            if (end < 0) return true;
            body = head.length - end - 4;
            const size = /^HTTP\/1\.1 200 [\s\S]*\r\ncontent-length: (\d+)\r\n/i.exec(head.slice(0, end + 2))?.[1];
            if (size === undefined) {
              socket.destroy(new Error(`unexpected answer: ${head.slice(0, 300)}`));
              return false;
            }
            left = Number(size);
            head = "";
          }
          left -= body;
          seen.bytes += body;
          if (left > 0) return true;
          left = -1;
          seen.requests++;
          if (more()) socket.write(wanted);
          else socket.end();
          return true;
        },
      },
    });
    socket.on("error", failed).on("close", () => done(seen));
    socket.write(wanted);
  });
}

/** The i-th content: pieces of zeros, the first of which says i. */
function* content(bytes: number, i: number): Generator<Buffer> {
  const zeros = Buffer.alloc(piece);
  const first = Buffer.alloc(piece);
  first.writeDoubleLE(i + 1);
  for (let at = 0; at < bytes; at += piece) yield (at === 0 ? first : zeros).subarray(0, Math.min(piece, bytes - at));
}

async function put(task: Extract<Task, { kind: "put" }>, i: number): Promise<number> {
  const hash = createHash("sha256");
  for (const part of content(task.bytes, i)) hash.update(part);
  const digest = hash.digest("hex");
  const started = performance.now();
  const sending = request({
    port: task.port,
    host: "127.0.0.1",
    method: "POST",
    path: `${task.path}?digest=sha256:${digest}`,
    headers: { authorization: `Bearer ${task.token}`, "content-length": task.bytes },
  });
  const status = new Promise<number | undefined>((done, failed) => {
    sending.on("error", failed).on("response", (answer) => {
      answer.resume().on("end", () => done(answer.statusCode));
    });
  });
  for (const part of content(task.bytes, i)) {
    if (!sending.write(part)) await new Promise((drained) => sending.once("drain", drained));
  }
  sending.end();
  if ((await status) !== 201) throw new Error(`an upload was answered with ${await status}`);
  return performance.now() - started;
}

function write(file: string, bytes: number, i: number): number {
  const started = performance.now();
  const hash = createHash("sha256");
  const fd = openSync(file, "w");
  for (const part of content(bytes, i)) {
    writeSync(fd, part);
    hash.update(part);
  }
  hash.digest();
  fsyncSync(fd);
  closeSync(fd);
  const took = performance.now() - started;
  rmSync(file);
  return took;
}

async function perform(task: Task): Promise<Omit<Result, "milliseconds" | "processor">> {
  const each: number[] = [];
  switch (task.kind) {
    case "get": {
      const end = performance.now() + task.milliseconds;
      const all = await Promise.all(
        Array.from({ length: task.connections }, () => repeat(task.port, task.path, () => performance.now() < end)),
      );
      return { requests: sum(all.map((one) => one.requests)), bytes: sum(all.map((one) => one.bytes)), each };
    }
    case "pull": {
      let pulling = true;
      const probes = (async () => {
        while (pulling) {
          const started = performance.now();
          await repeat(task.port, task.probe, () => false);
          each.push(performance.now() - started);
          await new Promise((done) => setTimeout(done, 20));
        }
      })();
      const all = await Promise.all(
        Array.from({ length: task.clients }, () => repeat(task.port, task.path, () => false)),
      );
      pulling = false;
      await probes;
      return { requests: sum(all.map((one) => one.requests)), bytes: sum(all.map((one) => one.bytes)), each };
    }
    case "put":
    case "write": {
      for (let i = task.first; i < task.first + task.count; i++) {
        each.push(task.kind === "put" ? await put(task, i) : write(task.file, task.bytes, i));
      }
      return { requests: task.count, bytes: task.count * task.bytes, each };
    }
  }
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

const started = performance.now();
const before = process.cpuUsage();
const result = await perform(JSON.parse(process.argv[2] ?? "") as Task);
const { user, system } = process.cpuUsage(before);
const spent = { milliseconds: performance.now() - started, processor: (user + system) / 1000 };
process.stdout.write(JSON.stringify({ ...result, ...spent } satisfies Result));
