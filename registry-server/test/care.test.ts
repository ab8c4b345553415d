/** Collection, scrub, fsck, backup and restore, on a registry that is running. */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import Database from "better-sqlite3";
import { expect, onTestFinished, test } from "vitest";
import { createRegistry, type Maintenance, openMaintenance, restore } from "../index.ts";
import {
  bearer,
  makePackage,
  publish,
  pushAll,
  putBlob,
  refusal,
  startRegistry,
  stored,
  type TestRegistry,
  temporaryFolder,
} from "./material.ts";

async function maintenanceOf(at: TestRegistry): Promise<Maintenance> {
  const maintenance = await openMaintenance({ dataFolder: at.folder });
  onTestFinished(() => maintenance.close());
  return maintenance;
}
const blobPath = (at: { folder: string }, digest: string) =>
  join(at.folder, "blobs", "sha256", digest.slice("sha256:".length));

function flip(path: string, at = 0): void {
  const byte = readFileSync(path)[at]! ^ 1;
  const file = openSync(path, "r+");
  writeSync(file, Buffer.from([byte]), 0, 1, at);
  closeSync(file);
}

test("collection removes what nobody published, as its dry run said, and then nothing more", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  await pushAll(at, makePackage({ version: "2.0.0", card: "# never published\n" }));
  await putBlob(at, at.write, "acme/norm", Buffer.from("loose"));
  const care = await maintenanceOf(at);
  expect(await care.gc()).toMatchObject({ manifests: 0, blobs: [] });
  const dry = await care.gc({ graceSeconds: -1, dryRun: true });
  const before = stored(at).length;
  expect(stored(at)).toHaveLength(before);
  const real = await care.gc({ graceSeconds: -1 });
  expect(real).toEqual({ ...dry, dryRun: false });
  expect(real.blobs.length).toBeGreaterThan(2);
  expect(stored(at)).toHaveLength(before - real.blobs.length);
  expect(await care.gc({ graceSeconds: -1 })).toMatchObject({ manifests: 0, links: 0, blobs: [], bytes: 0 });
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(200);
  for (const blob of pack.blobs) {
    expect((await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(blob)}`)).status).toBe(200);
  }
  expect(await care.fsck()).toMatchObject({ sound: true, orphans: [] });
});

test("scrub finds every flipped bit, says who needs the blob, and it is never served", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const loose = Array.from({ length: 20 }, (_, i) => Buffer.from(`blob number ${i}`));
  for (const bytes of loose) await putBlob(at, at.write, "acme/norm", bytes);
  for (const [i, bytes] of loose.entries()) flip(blobPath(at, digestOf(bytes)), i % bytes.length);
  const card = digestOf(pack.blobs[1]!);
  flip(blobPath(at, card), 3);
  const care = await maintenanceOf(at);
  const { damaged } = await care.scrub();
  expect(damaged.map((d) => d.digest).sort()).toEqual([card, ...loose.map((b) => digestOf(b))].sort());
  expect(damaged.find((d) => d.digest === card)).toMatchObject({ what: "bytes", needed: ["acme/norm@1.0.0"] });
  for (const digest of [card, digestOf(loose[0]!)]) {
    const answer = fetch(`${at.origin}/v2/acme/norm/blobs/${digest}`, { headers: bearer(at.write) });
    expect((await refusal(answer))[2]).toBe("KL_REGISTRY_BLOB_DAMAGED");
    expect(existsSync(blobPath(at, digest))).toBe(false);
  }
  expect(readdirSync(join(at.folder, "damaged", "sha256"))).toHaveLength(21);
  expect((await care.fsck()).sound).toBe(false);
  // Pushing the bytes again repairs it.
  await putBlob(at, at.write, "acme/norm", pack.blobs[1] as Buffer);
  expect((await fetch(`${at.origin}/v2/acme/norm/blobs/${card}`)).status).toBe(200);
  expect((await care.scrub()).damaged).toEqual([]);
});

test("a blob that was cut or swapped for another size is not served", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  truncateSync(blobPath(at, digestOf(pack.payload)), 10);
  const answer = fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(pack.payload)}`);
  expect(await refusal(answer)).toEqual([500, "BLOB_UNKNOWN", "KL_REGISTRY_BLOB_DAMAGED"]);
});

test("fsck tells what is missing, of another size, or nobody's; repair removes the last", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const care = await maintenanceOf(at);
  expect(await care.fsck()).toMatchObject({ sound: true, blobs: [], orphans: [] });
  rmSync(blobPath(at, digestOf(pack.payload)));
  truncateSync(blobPath(at, digestOf(pack.blobs[1]!)), 1);
  const orphan = digestOf("orphan");
  writeFileSync(blobPath(at, orphan), "orphan");
  const found = await care.fsck({ repair: true });
  expect(found.sound).toBe(false);
  expect(found.blobs.map(({ digest, what }) => [digest, what]).sort()).toEqual(
    [
      [digestOf(pack.payload), "missing"],
      [digestOf(pack.blobs[1]!), "size"],
    ].sort(),
  );
  expect(found.orphans).toEqual([orphan]);
  expect(existsSync(blobPath(at, orphan))).toBe(false);
});

test.each([
  ["edited", "update audit set actor = 'mallory' where seq = 3"],
  ["removed", "delete from audit where seq = 3"],
  [
    "added",
    "insert into audit select 99, at, actor, action, subject, details, previous, hash from audit where seq = 3",
  ],
])("an audit row that is %s breaks the chain", async (_what, statement) => {
  const at = await startRegistry();
  await publish(at, makePackage());
  expect(await at.registry.verifyAudit()).toMatchObject({ broken: null });
  const sql = new Database(join(at.folder, "registry.sqlite"));
  sql.exec(statement);
  sql.close();
  expect((await at.registry.verifyAudit()).broken).not.toBeNull();
});

test("a backup taken while versions are published is whole, and restores to a registry that serves", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  const care = await maintenanceOf(at);
  const target = join(temporaryFolder(), "backup");
  let running = true;
  const publishing = (async () => {
    let count = 0;
    for (; running; count++) await publish(at, makePackage({ version: `2.${count}.0`, card: `# ${count}\n` }));
    return count;
  })();
  await care.backUp(target);
  running = false;
  const total = await publishing;
  // Again into the same folder: only what is new is copied.
  const manifest = await care.backUp(target);
  expect(manifest.audit_head).toEqual(await at.registry.auditHead());

  const folder = join(temporaryFolder(), "restored");
  await restore(target, folder);
  const restored = await createRegistry({ dataFolder: folder });
  onTestFinished(() => restored.close());
  const { origin } = await restored.listen();
  const tags = (await (await fetch(`${origin}/v2/acme/norm/tags/list`)).json()) as { tags: string[] };
  expect(tags.tags).toHaveLength(total + 1);
  expect(await restored.verifyAudit()).toMatchObject({ broken: null });
  const checked = await openMaintenance({ dataFolder: folder });
  onTestFinished(() => checked.close());
  expect(await checked.fsck()).toMatchObject({ sound: true, orphans: [] });
  expect((await checked.scrub()).damaged).toEqual([]);
});

test("a damaged backup is not restored", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const care = await maintenanceOf(at);
  const target = join(temporaryFolder(), "backup");
  await care.backUp(target);
  flip(blobPath({ folder: target }, digestOf(pack.payload)), 100);
  const folder = join(temporaryFolder(), "restored");
  await expect(restore(target, folder)).rejects.toMatchObject({ code: "KL_REGISTRY_BACKUP_DAMAGED" });
  expect(existsSync(join(folder, "registry.sqlite"))).toBe(false);
  await expect(restore(target, folder)).rejects.toMatchObject({ code: "KL_REGISTRY_FOLDER_IN_USE" });
});

test("a data folder of the first release is brought up to date with all that it holds", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const folder = temporaryFolder();
  const { downgrade } = await import("./first-release.ts");
  downgrade(at.folder, folder);
  const registry = await createRegistry({ dataFolder: folder });
  onTestFinished(() => registry.close());
  const { origin } = await registry.listen();
  const index = await fetch(`${origin}/v2/acme/norm/manifests/1.0.0`);
  expect(index.headers.get("docker-content-digest")).toBe(pack.digest);
  expect((await fetch(`${origin}/v2/acme/norm/blobs/${digestOf(pack.payload)}`)).status).toBe(200);
  expect((await fetch(`${origin}/v2/`, { headers: bearer(at.write) })).status).toBe(200);
  expect((await registry.listTokens("acme")).map((t) => t.role).sort()).toEqual(["publisher", "reader"]);
  expect(await registry.collectGarbage({ graceSeconds: 0 })).toMatchObject({ manifests: 0, blobs: [] });
  await registry.setVersionState({ repository: "acme/norm", version: "1.0.0", state: "quarantined" });
  expect((await fetch(`${origin}/v2/acme/norm/blobs/${digestOf(pack.payload)}`)).status).toBe(403);
});
