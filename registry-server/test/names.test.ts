import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { startRegistry } from "./material.ts";

/** A request line as it stands: `fetch` would tidy the path. */
async function raw(origin: string, line: string, token: string): Promise<{ status: number; body: string }> {
  const socket = connect(Number(new URL(origin).port), "127.0.0.1");
  await once(socket, "connect");
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk));
  socket.end(`${line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`);
  await once(socket, "close");
  return { status: Number(answer.split(" ")[1]), body: answer.slice(answer.indexOf("\r\n\r\n")) };
}

const odd = [
  "..",
  "../..",
  "..%2f..",
  "%2e%2e/%2e%2e",
  "acme/..%2f..%2fetc",
  "acme/%00norm",
  "ACME/norm",
  "acme/-norm",
  "acme/norm_",
  "acme/no%20rm",
  "acme/n%F0%9F%98%80",
  `acme/${"a".repeat(300)}`,
  "acme",
  "acme/norm/deeper",
  "acme/%E0%A4%A",
  "__proto__/constructor",
];

test.each(odd)("the repository name %j finds nothing and stores nothing", async (name) => {
  const at = await startRegistry();
  const digest = digestOf("x");
  for (const line of [
    `GET /v2/${name}/manifests/1.0.0`,
    `GET /v2/${name}/blobs/${digest}`,
    `GET /v2/${name}/tags/list`,
    `POST /v2/${name}/blobs/uploads/?digest=${digest}`,
    `PUT /v2/${name}/manifests/1.0.0`,
    `GET /kernels/${name}`,
    `GET /api/v1/kernels/${name}`,
  ]) {
    const { status, body } = await raw(at.origin, line, at.write);
    expect([400, 401, 403, 404, 414], `${line}: ${status} ${body}`).toContain(status);
    if (!line.includes("/kernels/")) expect(body, line).toContain('"code":"KL_REGISTRY_');
    expect(body).not.toMatch(/^ +at /m);
  }
  expect(readdirSync(at.folder).sort()).toEqual(
    ["blobs", "registry.sqlite", "registry.sqlite-shm", "registry.sqlite-wal", "uploads"].sort(),
  );
  expect(readdirSync(dirname(at.folder))).not.toContain("etc");
});

test.each([
  "../../registry.sqlite",
  "..%2f..%2f..%2fregistry.sqlite",
  "sha256:..%2f..%2fregistry.sqlite",
  "%00",
  "sha256:",
])("the digest %j finds nothing", async (digest) => {
  const at = await startRegistry();
  for (const route of ["blobs", "manifests", "referrers"]) {
    const { status, body } = await raw(at.origin, `GET /v2/acme/norm/${route}/${digest}`, at.write);
    expect([400, 404], `${route}: ${body}`).toContain(status);
    expect(body).not.toContain("SQLite");
  }
});
