import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, putBlob, refusal, startRegistry, stored, type TestRegistry, unfinished } from "./material.ts";

const bytes = Buffer.from("some bytes that are a blob");

async function begin(at: TestRegistry, query = ""): Promise<string> {
  const answer = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/${query}`, {
    method: "POST",
    headers: bearer(at.write),
  });
  expect(answer.status).toBe(202);
  return `${at.origin}${answer.headers.get("location")}`;
}

const send = (at: TestRegistry, method: string, url: string, body?: Buffer, headers: Record<string, string> = {}) =>
  fetch(url, { method, headers: { ...bearer(at.write), ...headers }, ...(body ? { body: new Uint8Array(body) } : {}) });

test("one POST with the digest", async () => {
  const at = await startRegistry();
  const answer = await putBlob(at, at.write, "acme/norm", bytes);
  expect(answer.status).toBe(201);
  expect(answer.headers.get("location")).toBe(`/v2/acme/norm/blobs/${digestOf(bytes)}`);
  expect(answer.headers.get("docker-content-digest")).toBe(digestOf(bytes));
});

test("POST, then PUT with everything", async () => {
  const at = await startRegistry();
  const url = await begin(at);
  expect((await send(at, "PUT", `${url}?digest=${digestOf(bytes)}`, bytes)).status).toBe(201);
  expect(unfinished(at)).toEqual([]);
});

test("POST, PATCH in chunks, status, PUT", async () => {
  const at = await startRegistry();
  const url = await begin(at);
  const first = await send(at, "PATCH", url, bytes.subarray(0, 10), { "content-range": "0-9" });
  expect([first.status, first.headers.get("range")]).toEqual([202, "0-9"]);
  const status = await send(at, "GET", url);
  expect([status.status, status.headers.get("range")]).toEqual([204, "0-9"]);
  const last = bytes.byteLength - 1;
  await send(at, "PATCH", url, bytes.subarray(10), { "content-range": `10-${last}` });
  expect((await send(at, "PUT", `${url}?digest=${digestOf(bytes)}`)).status).toBe(201);
  const back = await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bytes)}`, { headers: bearer(at.write) });
  expect(Buffer.from(await back.arrayBuffer()).equals(bytes)).toBe(true);
});

test("a chunk out of order is refused, and the upload goes on", async () => {
  const at = await startRegistry();
  const url = await begin(at);
  await send(at, "PATCH", url, bytes.subarray(0, 10), { "content-range": "0-9" });
  for (const range of ["5-14", "11-20", "0-9"]) {
    const answer = send(at, "PATCH", url, bytes.subarray(0, 10), { "content-range": range });
    expect(await refusal(answer)).toEqual([416, "BLOB_UPLOAD_INVALID", "KL_REGISTRY_UPLOAD_RANGE"]);
  }
  await send(at, "PATCH", url, bytes.subarray(10));
  expect((await send(at, "PUT", `${url}?digest=${digestOf(bytes)}`)).status).toBe(201);
});

test("a cancelled upload is gone", async () => {
  const at = await startRegistry();
  const url = await begin(at);
  await send(at, "PATCH", url, bytes);
  expect((await send(at, "DELETE", url)).status).toBe(204);
  expect(unfinished(at)).toEqual([]);
  expect(await refusal(send(at, "PATCH", url, bytes))).toEqual([
    404,
    "BLOB_UPLOAD_UNKNOWN",
    "KL_REGISTRY_UPLOAD_UNKNOWN",
  ]);
});

test("an upload belongs to the token and the repository that began it", async () => {
  const at = await startRegistry();
  const url = await begin(at);
  const { token } = await at.registry.createToken({ namespace: "acme", role: "publisher" });
  const other = fetch(url, { headers: bearer(token) });
  expect((await refusal(other))[2]).toBe("KL_REGISTRY_UPLOAD_UNKNOWN");
  expect((await refusal(send(at, "GET", url.replace("/norm/", "/other/"))))[2]).toBe("KL_REGISTRY_UPLOAD_UNKNOWN");
});

test("a blob mounts from a repository that the token may read", async () => {
  const at = await startRegistry();
  await putBlob(at, at.write, "acme/norm", bytes);
  const mount = (from: string) =>
    send(at, "POST", `${at.origin}/v2/acme/other/blobs/uploads/?mount=${digestOf(bytes)}&from=${from}`);
  expect((await mount("acme/norm")).status).toBe(201);
  const head = await fetch(`${at.origin}/v2/acme/other/blobs/${digestOf(bytes)}`, {
    method: "HEAD",
    headers: bearer(at.write),
  });
  expect(head.status).toBe(200);
});

test("a blob of somebody else's private namespace does not mount", async () => {
  const at = await startRegistry();
  const { policy } = (await at.registry.getNamespace("acme"))!;
  await at.registry.createNamespace({ name: "secret", visibility: "private", policy });
  const { token } = await at.registry.createToken({ namespace: "secret", role: "publisher" });
  await putBlob(at, token, "secret/norm", bytes);
  const answer = await send(
    at,
    "POST",
    `${at.origin}/v2/acme/other/blobs/uploads/?mount=${digestOf(bytes)}&from=secret/norm`,
  );
  expect(answer.status).toBe(202);
});

test("a blob larger than the limit is refused, with and without an announced length", async () => {
  const at = await startRegistry({ maxBlobBytes: 1000 });
  const large = Buffer.alloc(200_000, 1);
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(new Uint8Array(large));
      controller.close();
    },
  });
  for (const body of [new Uint8Array(large), stream]) {
    const answer = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/?digest=${digestOf(large)}`, {
      method: "POST",
      headers: bearer(at.write),
      body,
      duplex: "half",
    } as RequestInit);
    expect(await refusal(answer)).toEqual([413, "SIZE_INVALID", "KL_REGISTRY_BLOB_TOO_LARGE"]);
  }
  expect([stored(at), unfinished(at)]).toEqual([[], []]);
});
