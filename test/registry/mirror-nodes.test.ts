/** Mirrors on every storage; several nodes fetch a version once, and publish it once. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { createRegistry, type DataOptions, openAdmin, openMaintenance } from "@kernlock/registry-server";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { makePackage, policyFor } from "../../registry-server/test/material.ts";
import { blobOf, manifestOf, put, quick, startShelf } from "../../registry-server/test/mirror-material.ts";
import { type Driver, newFolder, scaleOut, sqliteFolder, title } from "./drivers.ts";

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver, driver === sqliteFolder ? 1 : 2);
  });
}

function suite(driver: Driver, nodeCount: number): void {
  const pack = makePackage({ variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] });

  async function start() {
    const upstream = await startShelf();
    await put(upstream.shelf, pack, upstream.key);
    const data = await driver.open();
    const admin = await openAdmin(data);
    onTestFinished(() => admin.close());
    await admin.createNamespace({ name: "acme", policy: policyFor(upstream.key) });
    await admin.declareMirror({ pattern: "acme/*", origin: upstream.origin });
    return { upstream, data, admin };
  }
  const clock = { ahead: 0 };
  async function node(data: DataOptions): Promise<{ origin: string }> {
    const registry = await createRegistry({
      ...data,
      dataFolder: nodeCount === 1 ? data.dataFolder : newFolder(),
      now: () => new Date(Date.now() + clock.ahead),
      mirrors: quick,
    });
    onTestFinished(() => registry.close(1));
    return registry.listen();
  }
  async function sound(data: DataOptions): Promise<void> {
    const care = await openMaintenance(data);
    onTestFinished(() => care.close());
    expect(await care.fsck()).toMatchObject({ sound: true });
    expect((await care.scrub()).damaged).toEqual([]);
  }

  test(`fifty who ask ${nodeCount === 1 ? "one node" : "two nodes"} at once are one question, and one publish`, async () => {
    const { upstream, data, admin } = await start();
    const nodes = await Promise.all(Array.from({ length: nodeCount }, () => node(data)));
    const herd = await Promise.all(Array.from({ length: 50 }, (_, i) => manifestOf(nodes[i % nodeCount]!, "1.0.0")));
    expect(herd.map(({ status }) => status)).toEqual(herd.map(() => 200));
    expect(upstream.count("/manifests/1.0.0")).toBe(1);
    for (const bytes of pack.blobs) expect(upstream.count(digestOf(bytes))).toBe(1);
    for (const at of nodes) {
      for (const bytes of pack.blobs) {
        expect(Buffer.from(await (await blobOf(at, digestOf(bytes))).arrayBuffer()).equals(bytes)).toBe(true);
      }
    }
    const rows = (await admin.auditAfter(0, 1000)).filter(({ action }) => action === "version.publish");
    expect(rows).toHaveLength(1);
    await sound(data);
  });

  test("a node that dies while it fetches leaves nothing half done, and another goes on", async () => {
    const { upstream, data, admin } = await start();
    const index = join(import.meta.dirname, "../../registry-server/index.ts");
    const code = `import { serve } from ${JSON.stringify(index)};
      console.log((await serve(JSON.parse(process.argv[1]))).origin);`;
    const options = JSON.stringify({ ...data, dataFolder: nodeCount === 1 ? data.dataFolder : newFolder() });
    const child = spawn(process.execPath, ["--input-type=module", "-e", code, options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    const dying = { origin: String((await once(child.stdout, "data"))[0]).trim() };
    let reached: () => void = () => {};
    const fetching = new Promise<void>((done) => {
      reached = done;
    });
    upstream.lie = (_, response, path) => {
      if (!path.includes(digestOf(pack.payload))) return false;
      response.writeHead(200, { "content-length": pack.payload.length });
      response.write(pack.payload.subarray(0, 1000), reached);
      return true;
    };
    const first = manifestOf(dying, "1.0.0").catch(() => undefined);
    await fetching;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await Promise.all([gone, first]);
    upstream.lie = undefined;
    const other = await node(data);
    // The dead node's turn ends after a minute.
    clock.ahead += 61_000;
    expect((await manifestOf(other, "1.0.0")).status).toBe(200);
    for (const bytes of pack.blobs) expect((await blobOf(other, digestOf(bytes))).status).toBe(200);
    const rows = (await admin.auditAfter(0, 1000)).filter(({ action }) => action === "version.publish");
    expect(rows).toHaveLength(1);
    await sound(data);
  });
}
