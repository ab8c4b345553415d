import { once } from "node:events";
import { connect } from "node:net";
import { digestOf } from "@kernlock/kernels/format";
import { expect, test, vi } from "vitest";
import { bearer, refusal, startRegistry, stored, type TestRegistry, unfinished } from "./material.ts";

const bytes = Buffer.from("0123456789");

/** Sends raw bytes, ends its side of the connection, and returns what the server answered. */
async function raw(at: TestRegistry, text: string, body: Buffer, end: "half" | "reset" = "half"): Promise<string> {
  const socket = connect(Number(new URL(at.origin).port), "127.0.0.1");
  await once(socket, "connect");
  socket.write(text);
  socket.write(body);
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk));
  socket.on("error", () => {});
  if (end === "half") socket.end();
  else setTimeout(() => socket.resetAndDestroy(), 100);
  await once(socket, "close");
  return answer;
}

/** What is cleared away after an answer is so in a moment; on a busy machine moments are long. */
const patience = { timeout: 60_000 };
const post = (at: TestRegistry, length: number) =>
  `POST /v2/acme/norm/blobs/uploads/?digest=${digestOf(bytes)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.write}\r\nContent-Length: ${length}\r\n\r\n`;

test("an upload that is cut short stores nothing", async () => {
  const at = await startRegistry();
  const answer = await raw(at, post(at, 1000), bytes);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer).toContain("KL_REGISTRY_UPLOAD_CUT");
  await vi.waitFor(() => expect(unfinished(at)).toEqual([]), patience);
  expect(stored(at)).toEqual([]);
});

test("an upload whose connection breaks stores nothing", async () => {
  const at = await startRegistry();
  await raw(at, post(at, 1000), bytes, "reset");
  await vi.waitFor(() => expect(unfinished(at)).toEqual([]), patience);
  expect(stored(at)).toEqual([]);
});

test("a chunk that is cut keeps what arrived, and the upload goes on from there", async () => {
  const at = await startRegistry();
  const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.write) });
  const path = begun.headers.get("location")!;
  const head = `PATCH ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.write}\r\nContent-Length: 10\r\n\r\n`;
  await raw(at, head, bytes.subarray(0, 4), "reset");
  const url = at.origin + path;
  await vi.waitFor(async () => {
    const status = await fetch(url, { headers: bearer(at.write) });
    expect([status.status, status.headers.get("range")]).toEqual([204, "0-3"]);
  }, patience);
  expect(stored(at)).toEqual([]);
  const rest = await fetch(`${url}?digest=${digestOf(bytes)}`, {
    method: "PUT",
    headers: bearer(at.write),
    body: new Uint8Array(bytes.subarray(4)),
  });
  expect(rest.status).toBe(201);
  expect([stored(at).length, unfinished(at)]).toEqual([1, []]);
});

test("a body longer than announced is refused: by its digest, or because what follows is no request", async () => {
  const at = await startRegistry();
  const answer = await raw(at, post(at, 5), bytes);
  expect(answer).toMatch(/^HTTP\/1\.1 400 .*KL_REGISTRY_(DIGEST_MISMATCH|BAD_REQUEST)/s);
  await vi.waitFor(() => expect([stored(at), unfinished(at)]).toEqual([[], []]), patience);
});

test("a Content-Range that disagrees with the body is refused", async () => {
  const at = await startRegistry();
  const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.write) });
  const url = `${at.origin}${begun.headers.get("location")}`;
  const patch = (range: string) =>
    fetch(url, {
      method: "PATCH",
      headers: { ...bearer(at.write), "content-range": range },
      body: new Uint8Array(bytes),
    });
  expect(await refusal(patch("0-99"))).toEqual([400, "SIZE_INVALID", "KL_REGISTRY_LENGTH_MISMATCH"]);
  expect((await refusal(patch("junk")))[2]).toBe("KL_REGISTRY_UPLOAD_RANGE");
  const put = fetch(`${url}?digest=${digestOf(bytes)}`, {
    method: "PUT",
    headers: { ...bearer(at.write), "content-range": "0-4" },
    body: new Uint8Array(bytes),
  });
  expect((await refusal(put))[2]).toBe("KL_REGISTRY_LENGTH_MISMATCH");
  // The upload can go on.
  expect([stored(at), unfinished(at).length]).toEqual([[], 1]);
});

test("bytes that do not have the announced digest are refused", async () => {
  const at = await startRegistry();
  const answer = fetch(`${at.origin}/v2/acme/norm/blobs/uploads/?digest=${digestOf("others")}`, {
    method: "POST",
    headers: bearer(at.write),
    body: new Uint8Array(bytes),
  });
  expect(await refusal(answer)).toEqual([400, "DIGEST_INVALID", "KL_REGISTRY_DIGEST_MISMATCH"]);
  expect([stored(at), unfinished(at)]).toEqual([[], []]);
});

test.each(["", "sha256:", "sha256:ABC", `md5:${"0".repeat(32)}`, `sha384:${"0".repeat(96)}`, "../../../etc/passwd"])(
  "the digest %j is refused",
  async (digest) => {
    const at = await startRegistry();
    const answer = fetch(`${at.origin}/v2/acme/norm/blobs/uploads/?digest=${encodeURIComponent(digest)}`, {
      method: "POST",
      headers: bearer(at.write),
      body: new Uint8Array(bytes),
    });
    expect(await refusal(answer)).toEqual([400, "DIGEST_INVALID", "KL_REGISTRY_DIGEST_INVALID"]);
    expect([stored(at), unfinished(at)]).toEqual([[], []]);
  },
);

test("a manifest put under the digest of another is refused", async () => {
  const at = await startRegistry();
  const answer = fetch(`${at.origin}/v2/acme/norm/manifests/${digestOf("others")}`, {
    method: "PUT",
    headers: { ...bearer(at.write), "content-type": "application/vnd.oci.image.index.v1+json" },
    body: new Uint8Array(bytes),
  });
  expect(await refusal(answer)).toEqual([400, "DIGEST_INVALID", "KL_REGISTRY_DIGEST_MISMATCH"]);
});
