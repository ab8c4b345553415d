/** A disk that fills up, at every place that writes: on a small tmpfs of its own, which takes root to mount. */
import { execFileSync } from "node:child_process";
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { openMaintenance } from "@kernlock/registry-server";
import { describe, expect, onTestFinished, test } from "vitest";
import { makePackage, pushAll, putBlob, putManifest, putTag } from "../../../registry-server/test/material.ts";
import { newFolder } from "../drivers.ts";
import { prepare, report, startServer, unlimited } from "./lab.ts";

describe.skipIf(process.getuid?.() !== 0)("disk full (needs root, to mount a tmpfs)", () => {
  test("every write is refused with 507 or 503, and everything that was there is still there", async () => {
    const dataFolder = newFolder();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", dataFolder]);
    onTestFinished(() => void execFileSync("umount", ["-l", dataFolder]));
    const access = await prepare(dataFolder);
    const server = await startServer({ dataFolder, limits: unlimited });
    const at = { ...access, origin: server.origin };
    const pack = makePackage();
    await pushAll(at, pack);
    expect((await putTag(at, pack)).status).toBe(201);
    const next = Array.from({ length: 6 }, (_, i) => makePackage({ version: `2.${i}.0`, card: `# ${i}\n` }));
    for (const version of next) await pushAll(at, version);
    const last = next.pop()!;

    const ballast = join(dataFolder, "ballast");
    const fill = (leave: number) => {
      rmSync(ballast, { force: true });
      const { bavail, bsize } = statfsSync(dataFolder);
      writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leave)));
    };
    const note = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.index,
        manifests: [],
        annotations: { filler: "x".repeat(2_000_000) },
      }),
    );
    const sites = {
      "blob, while it is written": () => putBlob(at, at.write, "acme/norm", Buffer.alloc(8 << 20, Math.random())),
      "blob, when its row is": () => putBlob(at, at.write, "acme/norm", Buffer.from(`${Math.random()}`)),
      manifest: () => putManifest(at, at.write, "acme/norm", digestOf(note), note, mediaTypes.index),
      version: () => putTag(at, next.pop()!),
    };
    const statuses: Record<string, number[]> = {};
    let unreadable = 0;
    for (const [site, write] of Object.entries(sites)) {
      for (const leave of [0, 4096, 8192, 16_384, 65_536]) {
        fill(leave);
        const { status } = await write();
        statuses[site] = [...(statuses[site] ?? []), status];
        expect([201, 503, 507], `${site} with ${leave} bytes left`).toContain(status);
        const index = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`);
        if (digestOf(new Uint8Array(await index.arrayBuffer())) !== pack.digest) unreadable++;
        for (const bytes of pack.blobs) {
          const got = await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bytes)}`);
          if (digestOf(new Uint8Array(await got.arrayBuffer())) !== digestOf(bytes)) unreadable++;
        }
      }
    }
    fill(0);
    await new Promise((done) => setTimeout(done, 1100));
    const ready = (await fetch(`${at.origin}/readyz`)).status;
    rmSync(ballast);
    await new Promise((done) => setTimeout(done, 1100));
    const again = (await fetch(`${at.origin}/readyz`)).status;
    expect((await putTag(at, last)).status).toBe(201);
    await server.kill();
    const care = await openMaintenance({ dataFolder });
    const found = await care.fsck();
    const { damaged } = await care.scrub();
    await care.close();
    report("disk full", {
      statuses,
      unreadable,
      readyz_full: ready,
      readyz_after: again,
      fsck_sound: found.sound,
      damaged: damaged.length,
    });
    expect([unreadable, ready, again, found.sound, damaged.length]).toEqual([0, 503, 200, true, 0]);
  });
});
