/** Mixed load for a long time, with collection and scrub: nothing fails, memory and descriptors stay where they are. */
import { randomInt } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { digestOf } from "@kernlock/kernels/format";
import { openMaintenance } from "@kernlock/registry-server";
import { expect, test } from "vitest";
import { bearer, makePackage, pushAll, putBlob, putTag } from "../../../registry-server/test/material.ts";
import { newFolder } from "../drivers.ts";
import { count, prepare, report, startServer, unlimited } from "./lab.ts";

test("mixed load", async () => {
  const minutes = count("SOAK_MINUTES", 60);
  const dataFolder = newFolder();
  const access = await prepare(dataFolder);
  const server = await startServer({ dataFolder, limits: unlimited, gcEverySeconds: 5, gcGraceSeconds: 10 });
  const at = { ...access, origin: server.origin };
  const first = makePackage({ version: "0.1.0" });
  await pushAll(at, first);
  await putTag(at, first);
  const end = performance.now() + minutes * 60_000;
  const seen = { requests: 0, server_errors: 0, unexpected: 0, publishes: 0 };
  const get = async (path: string, expected: number) => {
    const answer = await fetch(`${at.origin}${path}`);
    await answer.arrayBuffer();
    seen.requests++;
    if (answer.status >= 500) seen.server_errors++;
    else if (answer.status !== expected) seen.unexpected++;
  };
  const reads = async () => {
    while (performance.now() < end) {
      await get("/v2/acme/norm/manifests/0.1.0", 200);
      await get(`/v2/acme/norm/blobs/${digestOf(first.payload)}`, 200);
      await get("/api/v1/search?q=norm", 200);
      await get("/api/v1/kernels/acme/norm/0.1.0", 200);
      await get(`/v2/acme/norm/referrers/${first.digest}`, 200);
      await get("/kernels/acme/norm", 200);
      await get("/v2/acme/norm/manifests/9.9.9", 404);
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  const writes = async () => {
    for (let i = 0; performance.now() < end; i++) {
      const pack = makePackage({ name: `acme/k${i % 50}`, version: `1.${i}.0`, card: `# ${i}\n` });
      await pushAll(at, pack);
      if ((await putTag(at, pack)).status === 201) seen.publishes++;
      else seen.unexpected++;
      await putBlob(at, at.write, "acme/norm", Buffer.alloc(randomInt(100_000), i));
      const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, {
        method: "POST",
        headers: bearer(at.write),
      });
      await fetch(`${at.origin}${begun.headers.get("location")}`, { method: "DELETE", headers: bearer(at.write) });
      await new Promise((done) => setTimeout(done, 1000));
    }
  };
  const samples: { hours: number; rss: number; fds: number }[] = [];
  const started = performance.now();
  const sample = () => {
    const { pid } = server.process;
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
    samples.push({ hours: (performance.now() - started) / 3600_000, rss, fds: readdirSync(`/proc/${pid}/fd`).length });
  };
  const timer = setInterval(sample, Math.min(10_000, minutes * 600));
  await Promise.all([reads(), reads(), reads(), writes()]);
  clearInterval(timer);
  // The first fifth is warming up.
  const steady = samples.slice(Math.ceil(samples.length / 5));
  const care = await openMaintenance({ dataFolder });
  const found = await care.fsck();
  const { damaged } = await care.scrub();
  await care.close();
  report("soak", {
    minutes,
    ...seen,
    rss_mb: [steady[0]!.rss, steady.at(-1)!.rss].map(Math.round),
    rss_slope_mb_per_hour: Number(slope(steady.map(({ hours, rss }) => [hours, rss])).toFixed(2)),
    fds: [steady[0]!.fds, steady.at(-1)!.fds],
    fsck_sound: found.sound,
    damaged: damaged.length,
  });
  expect([seen.server_errors, seen.unexpected, found.sound, damaged.length]).toEqual([0, 0, true, 0]);
});

/** Least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const [x, y] = [mean(points.map((p) => p[0])), mean(points.map((p) => p[1]))];
  const over = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0);
  return over / points.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
}
