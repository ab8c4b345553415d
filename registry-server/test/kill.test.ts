/** A server process that dies in the middle of an upload or a publish leaves nothing that a reader could see. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { expect, onTestFinished, test, vi } from "vitest";
import { openAdmin } from "../index.ts";
import { makePackage, newKey, policyFor, pushAll, putTag, stored, temporaryFolder, unfinished } from "./material.ts";

async function spawnServer(folder: string): Promise<{ process: ChildProcess; origin: string }> {
  const index = join(import.meta.dirname, "..", "index.ts");
  const code = `import { serve } from ${JSON.stringify(index)};
    const { origin } = await serve({ dataFolder: process.argv[1] });
    console.log(origin);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [line] = (await once(child.stdout!, "data")) as [Buffer];
  return { process: child, origin: line.toString().trim() };
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

test("kill -9 in the middle of an upload", async () => {
  const folder = temporaryFolder();
  const admin = await openAdmin({ dataFolder: folder });
  const key = newKey();
  await admin.createNamespace({ name: "acme", policy: policyFor(key) });
  const write = (await admin.createToken({ namespace: "acme", role: "publisher" })).token;
  await admin.close();

  const first = await spawnServer(folder);
  const bytes = Buffer.alloc(1 << 20, 7);
  const socket = connect(Number(new URL(first.origin).port), "127.0.0.1").on("error", () => {});
  socket.write(
    `POST /v2/acme/norm/blobs/uploads/?digest=${digestOf(bytes)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${write}\r\nContent-Length: ${bytes.byteLength}\r\n\r\n`,
  );
  socket.write(bytes.subarray(0, bytes.byteLength / 2));
  await vi.waitFor(() => expect(unfinished({ folder })).toHaveLength(1), 60_000);
  await kill(first.process);
  expect(stored({ folder })).toEqual([]);

  // What was left half-written goes away when the next server starts, and the same upload then succeeds.
  const second = await spawnServer(folder);
  expect(unfinished({ folder })).toEqual([]);
  const at = { origin: second.origin, key, write };
  const pack = makePackage();
  await pushAll(at, pack);
  expect((await putTag(at, pack)).status).toBe(201);
  await kill(second.process);

  const third = await spawnServer(folder);
  const answer = await fetch(`${third.origin}/v2/acme/norm/manifests/1.0.0`);
  expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(pack.digest);
});

test("kill -9 at random moments of publishing: a version is whole or absent", async () => {
  const folder = temporaryFolder();
  const admin = await openAdmin({ dataFolder: folder });
  const key = newKey();
  await admin.createNamespace({ name: "acme", policy: policyFor(key) });
  const write = (await admin.createToken({ namespace: "acme", role: "publisher" })).token;
  await admin.close();

  for (let round = 0; round < 6; round++) {
    const server = await spawnServer(folder);
    const at = { origin: server.origin, key, write };
    const pack = makePackage({ version: `1.${round}.0` });
    await pushAll(at, pack);
    const put = putTag(at, pack).then(
      (answer) => answer.status,
      () => "cut" as const,
    );
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
    await kill(server.process);
    const status = await put;

    const next = await spawnServer(folder);
    const manifest = await fetch(`${next.origin}/v2/acme/norm/manifests/1.${round}.0`);
    const document = await fetch(`${next.origin}/api/v1/kernels/acme/norm/1.${round}.0`);
    expect(document.status).toBe(manifest.status);
    if (status === 201) expect(manifest.status).toBe(200);
    if (manifest.status === 200) {
      for (const blob of pack.blobs) {
        const answer = await fetch(`${next.origin}/v2/acme/norm/blobs/${digestOf(blob)}`);
        expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(digestOf(blob));
      }
    } else {
      expect((await putTag({ ...at, origin: next.origin }, pack)).status).toBe(201);
    }
    await kill(next.process);
  }
});
