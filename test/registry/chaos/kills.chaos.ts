import { readdirSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { openMaintenance } from "@kernlock/registry-server";
import { expect, test } from "vitest";
import { makePackage, pushAll, putTag } from "../../../registry-server/test/material.ts";
import { newFolder } from "../drivers.ts";
import { count, prepare, report, startServer, unlimited } from "./lab.ts";

test("kill -9 at random moments of a publish", async () => {
  const kills = count("KILLS", 1000);
  const dataFolder = newFolder();
  const access = await prepare(dataFolder);
  let server = await startServer({ dataFolder, limits: unlimited });
  let [whole, absent, partial, leftovers] = [0, 0, 0, 0];
  // How long a publish takes here, so that the kills fall into it.
  const started = performance.now();
  const warm = makePackage({ version: "0.1.0" });
  await pushAll({ ...access, origin: server.origin }, warm);
  await putTag({ ...access, origin: server.origin }, warm);
  const length = performance.now() - started;
  for (let round = 0; round < kills; round++) {
    const at = { ...access, origin: server.origin };
    const pack = makePackage({ version: `1.${round}.0`, card: `# ${round}\n` });
    const work = pushAll(at, pack).then(() => putTag(at, pack));
    work.catch(() => {});
    await new Promise((done) => setTimeout(done, Math.random() * length * 1.2));
    await server.kill();
    const acknowledged = await work.then(
      (answer) => answer.status === 201,
      () => false,
    );
    server = await startServer({ dataFolder, limits: unlimited });
    leftovers += readdirSync(join(dataFolder, "uploads")).length;
    const get = (path: string) => fetch(`${server.origin}/v2/acme/norm/${path}`);
    const index = await get(`manifests/${pack.version}`);
    if (index.status === 404) {
      if (acknowledged) partial++;
      absent++;
      // Nothing of it may be seen.
      for (const bytes of [pack.index, ...pack.variants.map((v) => v.manifest)]) {
        if ((await get(`manifests/${digestOf(bytes)}`)).status === 200) partial++;
      }
      continue;
    }
    whole++;
    let sound = digestOf(new Uint8Array(await index.arrayBuffer())) === pack.digest;
    for (const bytes of pack.blobs) {
      const blob = await get(`blobs/${digestOf(bytes)}`);
      sound &&= digestOf(new Uint8Array(await blob.arrayBuffer())) === digestOf(bytes);
    }
    if (!sound) partial++;
  }
  await server.kill();
  const care = await openMaintenance({ dataFolder });
  const found = await care.fsck();
  await care.gc({ graceSeconds: -1 });
  const after = await care.fsck({ repair: true });
  await care.close();
  report("kill -9 during publish", {
    kills,
    whole,
    absent,
    partial,
    unfinished_files_after_restart: leftovers,
    fsck_sound: found.sound && after.sound,
    orphan_files: found.orphans.length,
  });
  expect([partial, leftovers, found.sound, after.sound, whole + absent]).toEqual([0, 0, true, true, kills]);
});
