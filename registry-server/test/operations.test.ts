/** What watches over a server asks, and how it stops. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { expect, onTestFinished, test } from "vitest";
import { openAdmin } from "../index.ts";
import { bearer, makePackage, newKey, policyFor, publish, startRegistry, temporaryFolder } from "./material.ts";

test("alive, ready, and metrics for those who may see all", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  expect(await (await fetch(`${at.origin}/healthz`)).json()).toEqual({ status: "ok" });
  expect(await (await fetch(`${at.origin}/readyz`)).json()).toEqual({ status: "ready" });
  expect((await fetch(`${at.origin}/metrics`)).status).toBe(401);
  expect((await fetch(`${at.origin}/metrics`, { headers: bearer(at.write) })).status).toBe(403);
  const { token } = await at.registry.createToken({ namespace: "*", role: "reader" });
  const answer = await fetch(`${at.origin}/metrics`, { headers: bearer(token) });
  expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await answer.text();
  for (const line of text.trim().split("\n"))
    expect(line).toMatch(/^(# (HELP|TYPE) .+|[a-z_0-9]+(\{.+\})? -?[\d.e+-]+)$/);
  expect(text).toContain("kernlock_versions 1\n");
  expect(text).toContain("kernlock_publishes_total 1\n");
  expect(text).toMatch(/kernlock_http_requests_total\{method="PUT",route="[^"]+",status="201"\} \d+/);
  expect(text).toContain('kernlock_refusals_total{code="KL_REGISTRY_UNAUTHORIZED"} 1\n');
});

test("the OpenAPI document describes operations that there are", async () => {
  const at = await startRegistry();
  const document = (await (await fetch(`${at.origin}/api/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({
      method: method.toUpperCase() as "GET",
      url: path.replaceAll(/\{(\w+)\}/g, ":$1"),
    })),
  );
  expect(operations.length).toBeGreaterThan(8);
  for (const operation of operations)
    expect([operation, at.registry.app.hasRoute(operation)]).toEqual([operation, true]);
});

test("the audit log is for operators, and its head is that of the last change", async () => {
  const at = await startRegistry();
  const get = (token: string) => fetch(`${at.origin}/api/v1/audit?limit=2`, { headers: bearer(token) });
  expect((await get(at.write)).status).toBe(403);
  const { token } = await at.registry.createToken({ namespace: "*", role: "auditor" });
  const { head, entries } = (await (await get(token)).json()) as { head: object; entries: object[] };
  expect(head).toEqual(await at.registry.auditHead());
  expect(entries).toMatchObject([{ seq: 1, action: "namespace.create", actor: "operator" }, { seq: 2 }]);
});

test("SIGTERM lets an upload and a download finish, and takes nothing new", async () => {
  const folder = temporaryFolder();
  const admin = await openAdmin({ dataFolder: folder });
  await admin.createNamespace({ name: "acme", policy: policyFor(newKey()) });
  const { token } = await admin.createToken({ namespace: "acme", role: "publisher" });
  await admin.close();
  const code = `import { serve } from ${JSON.stringify(join(import.meta.dirname, "..", "index.ts"))};
    console.log((await serve({ dataFolder: process.argv[1] })).origin);`;
  const server = spawn(process.execPath, ["--input-type=module", "-e", code, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void server.kill("SIGKILL"));
  const origin = String((await once(server.stdout, "data"))[0]).trim();
  const port = Number(new URL(origin).port);

  const large = Buffer.alloc(24 << 20, "kernlock");
  const put = await fetch(`${origin}/v2/acme/norm/blobs/uploads/?digest=${digestOf(large)}`, {
    method: "POST",
    headers: bearer(token),
    body: large,
  });
  expect(put.status).toBe(201);
  // A download that is read slowly, and an upload that is half sent.
  const download = await fetch(`${origin}/v2/acme/norm/blobs/${digestOf(large)}`, { headers: bearer(token) });
  const small = Buffer.alloc(100_000, "x");
  const upload = connect(port, "127.0.0.1");
  let answer = "";
  upload.on("data", (data) => (answer += data));
  upload.write(
    `POST /v2/acme/norm/blobs/uploads/?digest=${digestOf(small)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Length: ${small.length}\r\n\r\n`,
  );
  upload.write(small.subarray(0, 50_000));
  await new Promise((done) => setTimeout(done, 200));

  const exited = once(server, "exit");
  server.kill("SIGTERM");
  await new Promise((done) => setTimeout(done, 300));
  await expect(fetch(`${origin}/healthz`)).rejects.toThrow();
  upload.write(small.subarray(50_000));
  expect(digestOf(new Uint8Array(await download.arrayBuffer()))).toBe(digestOf(large));
  const [status] = (await exited) as [number];
  expect(status).toBe(0);
  expect(answer).toMatch(/^HTTP\/1.1 201 /);
});
