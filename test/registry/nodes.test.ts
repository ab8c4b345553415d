/** Two nodes on one PostgreSQL and one S3: what one takes the other serves, and losing one loses nothing. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { type DataOptions, openAdmin, openMaintenance } from "@kernlock/registry-server";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { makePackage, newKey, policyFor, pushAll, putTag } from "../../registry-server/test/material.ts";
import { newFolder, scaleOut, title } from "./drivers.ts";

const driver = scaleOut();

interface Node {
  readonly process: ChildProcess;
  readonly origin: string;
}

async function startNode(data: DataOptions, redirectFromBytes?: number): Promise<Node> {
  const index = join(import.meta.dirname, "../../registry-server/index.ts");
  const code = `import { serve } from ${JSON.stringify(index)};
    console.log((await serve(JSON.parse(process.argv[1]))).origin);`;
  const options = JSON.stringify({ ...data, dataFolder: newFolder(), redirectFromBytes });
  const child = spawn(process.execPath, ["--input-type=module", "-e", code, options], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return { process: child, origin: String((await once(child.stdout, "data"))[0]).trim() };
}

describe.skipIf(driver.missing !== undefined)(title(driver), () => {
  afterAll(() => driver.close());

  async function start() {
    const data = await driver.open();
    const admin = await openAdmin(data);
    const key = newKey();
    await admin.createNamespace({ name: "acme", policy: policyFor(key) });
    const { token } = await admin.createToken({ namespace: "acme", role: "publisher" });
    onTestFinished(() => admin.close());
    return { data, admin, key, write: token };
  }

  test("a version published through one node is whole on the other; large blobs come from the store", async () => {
    const at = await start();
    const [one, two] = [await startNode(at.data), await startNode(at.data, 1)];
    const pack = makePackage();
    await pushAll({ ...at, origin: one.origin }, pack);
    expect((await putTag({ ...at, origin: two.origin }, pack)).status).toBe(201);
    expect((await putTag({ ...at, origin: one.origin }, pack)).status).toBe(201);
    for (const { origin } of [one, two]) {
      const index = await fetch(`${origin}/v2/acme/norm/manifests/1.0.0`);
      expect(digestOf(new Uint8Array(await index.arrayBuffer()))).toBe(pack.digest);
      for (const bytes of pack.blobs) {
        const answer = await fetch(`${origin}/v2/acme/norm/blobs/${digestOf(bytes)}`);
        expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
        expect(answer.redirected).toBe(origin === two.origin);
      }
    }
    expect((await at.admin.auditAfter(0, 100)).filter((row) => row.action === "version.publish")).toHaveLength(1);
  });

  test("one of many nodes' clients publishes a version, the others are told", async () => {
    const at = await start();
    const nodes = [await startNode(at.data), await startNode(at.data)];
    const packs = Array.from({ length: 8 }, (_, i) => makePackage({ card: `# ${i}\n` }));
    await Promise.all(packs.map((pack, i) => pushAll({ ...at, origin: nodes[i % 2]!.origin }, pack)));
    const statuses = await Promise.all(
      packs.map(async (pack, i) => (await putTag({ ...at, origin: nodes[i % 2]!.origin }, pack)).status),
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(7);
  });

  test("a node that dies in the middle of publishing: the client goes to the other, nothing is lost or doubled", async () => {
    const at = await start();
    let dying = await startNode(at.data);
    const staying = await startNode(at.data);
    const rounds = 4;
    for (let round = 0; round < rounds; round++) {
      const pack = makePackage({ version: `1.${round}.0`, card: `# ${round}\n` });
      const first = pushAll({ ...at, origin: dying.origin }, pack).then(() =>
        putTag({ ...at, origin: dying.origin }, pack),
      );
      first.catch(() => {});
      await new Promise((done) => setTimeout(done, 20 + Math.random() * 100));
      const gone = once(dying.process, "exit");
      dying.process.kill("SIGKILL");
      await gone;
      await first.catch(() => {});
      await pushAll({ ...at, origin: staying.origin }, pack);
      expect((await putTag({ ...at, origin: staying.origin }, pack)).status).toBe(201);
      dying = await startNode(at.data);
    }
    const { tags } = (await (await fetch(`${staying.origin}/v2/acme/norm/tags/list`)).json()) as { tags: string[] };
    expect(tags).toHaveLength(rounds);
    const audit = await at.admin.auditAfter(0, 1000);
    expect(audit.filter((row) => row.action === "version.publish")).toHaveLength(rounds);
    const care = await openMaintenance(at.data);
    onTestFinished(() => care.close());
    expect(await care.fsck()).toMatchObject({ sound: true });
    expect((await care.scrub()).damaged).toEqual([]);
  });
});
