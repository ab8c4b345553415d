/** Backups while versions are published as fast as this machine and one server can. */
import { join } from "node:path";
import { openMaintenance, restore } from "@kernlock/registry-server";
import Database from "better-sqlite3";
import { expect, onTestFinished, test } from "vitest";
import { makePackage, pushAll, putTag } from "../../../registry-server/test/material.ts";
import { newFolder } from "../drivers.ts";
import { count, prepare, report, startServer, unlimited } from "./lab.ts";

test("backup during publishes", async () => {
  const publishes = count("BACKUP_PUBLISHES", 600);
  const wanted = count("BACKUP_RATE", 100);
  const dataFolder = newFolder();
  const access = await prepare(dataFolder);
  const server = await startServer({ dataFolder, limits: unlimited });
  const at = { ...access, origin: server.origin };
  const packs = Array.from({ length: publishes }, (_, i) =>
    makePackage({ name: `acme/k${i % 20}`, version: `1.${i}.0`, card: `# ${i}\n` }),
  );
  const inTurn = async (width: number, work: (pack: (typeof packs)[number], i: number) => Promise<void>) => {
    const queue = packs.entries();
    await Promise.all(
      Array.from({ length: width }, async () => {
        for (const [i, pack] of queue) await work(pack, i);
      }),
    );
  };
  // Everything but the tags, so that publishing is all that is left.
  await inTurn(4, (pack) => pushAll(at, pack));
  const care = await openMaintenance({ dataFolder });
  onTestFinished(() => care.close());
  const target = join(newFolder(), "backup");
  await care.backUp(target);

  const acknowledged = new Set<string>();
  let refused = 0;
  let running = true;
  let ended = 0;
  const started = performance.now();
  const publishing = inTurn(16, async (pack, i) => {
    await new Promise((done) => setTimeout(done, Math.max(0, started + (i * 1000) / wanted - performance.now())));
    const { status } = await putTag(at, pack);
    if (status === 201) acknowledged.add(`${pack.name}@${pack.version}`);
    else refused++;
  }).finally(() => {
    running = false;
    ended = performance.now();
  });
  const backups: { before: number; there: number; lost: number }[] = [];
  do {
    const before = [...acknowledged];
    await care.backUp(target);
    const sql = new Database(join(target, "registry.sqlite"), { readonly: true });
    const rows = sql.prepare("select repository || '@' || version as name from version").all() as { name: string }[];
    sql.close();
    const there = new Set(rows.map(({ name }) => name));
    backups.push({ before: before.length, there: there.size, lost: before.filter((name) => !there.has(name)).length });
  } while (running);
  await publishing;
  const rate = (publishes * 1000) / (ended - started);
  const last = join(newFolder(), "restored");
  await restore(target, last);
  const restored = await openMaintenance({ dataFolder: last });
  onTestFinished(() => restored.close());
  const found = await restored.fsck();
  const { damaged } = await restored.scrub();
  report("backup during publishes", {
    publishes,
    refused,
    wanted_per_second: wanted,
    reached_per_second: Math.round(rate),
    backups: backups.length,
    versions_in_each: backups.map(({ there }) => there),
    lost: backups.reduce((sum, { lost }) => sum + lost, 0),
    fsck_sound: found.sound,
    damaged: damaged.length,
  });
  expect([refused, backups.filter(({ lost }) => lost > 0), found.sound, damaged.length]).toEqual([0, [], true, 0]);
});
