/** Bodies that drip are cut; what arrived of an upload is kept; nobody who sends at a fair rate is touched. */
import { once } from "node:events";
import { connect } from "node:net";
import { digestOf } from "@kernlock/kernels/format";
import { expect, onTestFinished, test } from "vitest";
import { bearer, startRegistry } from "./material.ts";

/** Sends a head that announces `length` bytes, then `piece` every 50 ms; resolves with all that was answered. */
async function drip(origin: string, path: string, token: string, length: number, piece: string): Promise<string> {
  const socket = connect(Number(new URL(origin).port), "127.0.0.1").on("error", () => {});
  onTestFinished(() => void socket.destroy());
  socket.write(`${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: ${length}\r\n\r\n`);
  let answer = "";
  let left = length;
  socket.on("data", (chunk) => {
    answer += chunk.toString("latin1");
    if (left <= 0) socket.end();
  });
  const timer = setInterval(() => {
    if (left > 0) socket.write(piece.slice(0, left));
    left -= piece.length;
  }, 50);
  onTestFinished(() => clearInterval(timer));
  await once(socket, "close");
  clearInterval(timer);
  return answer;
}

test("an upload that drips is cut with 408 and goes on where it stopped", async () => {
  const at = await startRegistry({ bodyFloor: { bytesPerSecond: 1000, seconds: 1 } });
  const bytes = Buffer.alloc(5000, "y");
  const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.write) });
  const location = begun.headers.get("location")!;
  const answer = await drip(at.origin, `PATCH ${location}`, at.write, bytes.length, "y");
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  expect(answer).toContain("KL_REGISTRY_TOO_SLOW");
  let range: string | null = null;
  // Busy until the request that was cut is over.
  while (range === null) {
    range = (await fetch(`${at.origin}${location}`, { headers: bearer(at.write) })).headers.get("range");
  }
  const received = Number(range.split("-")[1]) + 1;
  const rest = await fetch(`${at.origin}${location}?digest=${digestOf(bytes)}`, {
    method: "PUT",
    headers: bearer(at.write),
    body: bytes.subarray(received),
  });
  expect(rest.status).toBe(201);
});

test.each(["POST /token", "PUT /v2/acme/norm/manifests/1.0.0"])("%s is cut as well", async (path) => {
  const at = await startRegistry({ bodyFloor: { bytesPerSecond: 1000, seconds: 1 } });
  const answer = await drip(at.origin, path, at.write, 5000, "y");
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
});

test("who keeps to the floor, or where there is none, is not cut", async () => {
  const fair = await startRegistry({ bodyFloor: { bytesPerSecond: 100, seconds: 1 } });
  const none = await startRegistry({ bodyFloor: { bytesPerSecond: 0, seconds: 0.1 } });
  for (const [at, length, piece] of [
    [fair, 50_000, "y".repeat(1000)],
    [none, 20, "y"],
  ] as const) {
    const path = `POST /v2/acme/norm/blobs/uploads/?digest=${digestOf("y".repeat(length))}`;
    expect(await drip(at.origin, path, at.write, length, piece)).toMatch(/^HTTP\/1\.1 201 /);
  }
});
