import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RegistryClient } from "../index.ts";

let folder: string;
let server: Server;
let ca: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kernlock-tls-"));
  const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(" ");
  const files = [
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-keyout",
    join(folder, "key.pem"),
    "-out",
    join(folder, "cert.pem"),
  ];
  execFileSync("openssl", [...args, ...files], { stdio: "ignore" });
  ca = readFileSync(join(folder, "cert.pem"), "utf8");
  server = createServer({ key: readFileSync(join(folder, "key.pem")), cert: ca }, (_, response) => {
    response.end('{"name":"a/b","tags":["1.0.0"]}');
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a private certificate authority counts when it is given, and only then", async () => {
  const origin = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const trusting = new RegistryClient({ origin, ca });
  expect(await trusting.tags("a/b")).toEqual(["1.0.0"]);
  await trusting.close();

  const strict = new RegistryClient({ origin });
  const error = await strict.tags("a/b").catch((e) => e);
  expect(error).toMatchObject({ code: "KL_OCI_CONNECT", remedy: expect.stringContaining("--ca") });
  await strict.close();
});
