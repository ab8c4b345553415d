import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { openAdmin, openMaintenance } from "@kernlock/registry-server";
import { expect, onTestFinished, test } from "vitest";
import { bearer, makePackage, pushAll, putBlob, putManifest, putTag } from "../../../registry-server/test/material.ts";
import { newFolder } from "../drivers.ts";
import { count, percentile, prepare, report, startServer, unlimited } from "./lab.ts";

async function start(options: { gcEverySeconds?: number; gcGraceSeconds?: number } = {}) {
  const dataFolder = newFolder();
  const access = await prepare(dataFolder);
  const server = await startServer({ dataFolder, limits: unlimited, ...options });
  return { ...access, dataFolder, server, origin: server.origin };
}

test("many clients publish one version at once", async () => {
  const clients = count("CONTENDERS", 50);
  const at = await start();
  const packs = Array.from({ length: clients }, (_, i) => makePackage({ card: `# ${i}\n` }));
  for (const pack of packs) await pushAll(at, pack);
  const statuses = await Promise.all(packs.map(async (pack) => (await putTag(at, pack)).status));
  const admin = await openAdmin({ dataFolder: at.dataFolder });
  const rows = (await admin.auditAfter(0, 10_000)).filter((row) => row.action === "version.publish");
  await admin.close();
  const [won, lost] = [201, 409].map((status) => statuses.filter((s) => s === status).length);
  report("one version, many clients", { clients, created: won, conflict: lost, audit_rows: rows.length });
  expect([won, lost, rows.length]).toEqual([1, clients - 1, 1]);
});

test("many versions are published at once", async () => {
  const publishes = count("PUBLISHES", 200);
  const at = await start();
  const packs = Array.from({ length: publishes }, (_, i) => makePackage({ version: `1.${i}.0`, card: `# ${i}\n` }));
  for (const pack of packs) await pushAll(at, pack);
  const times: number[] = [];
  const started = performance.now();
  const statuses = await Promise.all(
    packs.map(async (pack) => {
      const { status } = await putTag(at, pack);
      times.push(performance.now() - started);
      return status;
    }),
  );
  const { tags } = (await (await fetch(`${at.origin}/v2/acme/norm/tags/list`)).json()) as { tags: string[] };
  const figures = { publishes, lost: publishes - tags.length, all_done_ms: Math.round(percentile(times, 0.99)) };
  report("many versions at once", figures);
  expect([statuses.every((s) => s === 201), figures.lost]).toEqual([true, 0]);
});

test("uploads that are cut at random offsets go on where they stopped", async () => {
  const cuts = count("CUTS", 50);
  const at = await start();
  let short = 0;
  for (let i = 0; i < cuts; i++) {
    const bytes = randomBytes(256 << 10);
    const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, {
      method: "POST",
      headers: bearer(at.write),
    });
    const location = begun.headers.get("location")!;
    const sent = randomInt(1, bytes.length);
    const socket = connect(Number(new URL(at.origin).port), "127.0.0.1").on("error", () => {});
    socket.write(
      `PATCH ${location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.write}\r\nContent-Length: ${bytes.length}\r\n\r\n`,
    );
    await new Promise((done) => socket.write(bytes.subarray(0, sent), done));
    await new Promise((done) => setTimeout(done, 20));
    socket.destroy();
    let offset = -1;
    for (let tries = 0; tries < 100 && offset < 0; tries++) {
      const status = await fetch(`${at.origin}${location}`, { headers: bearer(at.write) });
      // Busy until the server has noticed the cut.
      if (status.status === 204) offset = Number(status.headers.get("range")!.split("-")[1]) + 1;
      else await new Promise((done) => setTimeout(done, 20));
    }
    const goOn = (from: number) =>
      fetch(`${at.origin}${location}`, {
        method: "PATCH",
        headers: { ...bearer(at.write), "content-range": `${from}-${bytes.length - 1}` },
        body: bytes.subarray(from),
      });
    // The range of an upload is 0-0 with one byte as well as with none.
    const rest = await goOn(offset === 1 ? 0 : offset);
    const accepted = rest.status === 416 ? await goOn(1) : rest;
    expect(accepted.status).toBe(202);
    if (offset < sent) short++;
    const put = await fetch(`${at.origin}${location}?digest=${digestOf(bytes)}`, {
      method: "PUT",
      headers: bearer(at.write),
    });
    expect(put.status).toBe(201);
  }
  report("uploads cut at random offsets", { cuts, resumed: cuts, of_which_bytes_in_flight_were_lost: short });
});

test("collection races uploads and publishes", async () => {
  const minutes = count("GC_MINUTES", 30);
  const at = await start({ gcEverySeconds: 1, gcGraceSeconds: 2 });
  const end = performance.now() + minutes * 60_000;
  const seen = { publishes: 0, artifacts: 0, missing: 0, refused: 0, server_errors: 0 };
  const admin = await openAdmin({ dataFolder: at.dataFolder });
  onTestFinished(() => admin.close());
  await admin.createNamespace({ name: "free", kind: "artifacts" });
  const free = (await admin.createToken({ namespace: "free", role: "publisher" })).token;
  const shared = Array.from({ length: 8 }, () => randomBytes(2000));
  const look = (status: number) => {
    if (status >= 500) seen.server_errors++;
    else if (status === 404) seen.missing++;
    else if (status >= 400) seen.refused++;
  };
  // Artifacts made of the same few blobs, pushed, read and deleted: each blob dies and comes back all the time.
  const artifacts = async (who: number) => {
    const repository = `free/r${who}`;
    while (performance.now() < end) {
      const blob = shared[randomInt(shared.length)]!;
      for (const bytes of [blob, Buffer.from("{}")]) look((await putBlob(at, free, repository, bytes)).status);
      const empty = { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf("{}"), size: 2 };
      const layer = { mediaType: "application/octet-stream", digest: digestOf(blob), size: blob.length };
      const type = "application/vnd.oci.image.manifest.v1+json";
      const manifest = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: type,
          config: empty,
          layers: [layer],
          annotations: { n: `${Math.random()}` },
        }),
      );
      look((await putManifest(at, free, repository, "latest", manifest, type)).status);
      const got = await fetch(`${at.origin}/v2/${repository}/blobs/${digestOf(blob)}`, { headers: bearer(free) });
      look(got.status);
      if (got.status === 200 && digestOf(new Uint8Array(await got.arrayBuffer())) !== digestOf(blob)) seen.missing++;
      await fetch(`${at.origin}/v2/${repository}/manifests/${digestOf(manifest)}`, {
        method: "DELETE",
        headers: bearer(free),
      });
      await new Promise((done) => setTimeout(done, randomInt(4000)));
      seen.artifacts++;
    }
  };
  const publishes = async () => {
    for (let i = 0; performance.now() < end; i++) {
      const pack = makePackage({ version: `1.${i}.0`, card: `# ${i}\n` });
      try {
        await pushAll(at, pack);
        const { status } = await putTag(at, pack);
        look(status);
        for (const bytes of pack.blobs)
          look((await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bytes)}`)).status);
      } catch (error) {
        seen.refused++;
        console.error(String(error).slice(0, 300));
      }
      seen.publishes++;
      await new Promise((done) => setTimeout(done, 500));
    }
  };
  await Promise.all([publishes(), ...Array.from({ length: 6 }, (_, who) => artifacts(who))]);
  await at.server.kill();
  const care = await openMaintenance({ dataFolder: at.dataFolder });
  const found = await care.fsck();
  const { damaged } = await care.scrub();
  await care.close();
  const runs = (await admin.auditAfter(0, 1_000_000)).filter((row) => row.action === "gc").length;
  report("collection races uploads", {
    minutes,
    ...seen,
    collections_that_freed: runs,
    fsck_sound: found.sound,
    damaged: damaged.length,
  });
  expect([seen.missing, seen.refused, seen.server_errors, found.sound, damaged.length]).toEqual([0, 0, 0, true, 0]);
  expect(runs).toBeGreaterThan(0);
});

test("scrub finds a flipped bit in each of many blobs", async () => {
  const flips = count("FLIPS", 100);
  const at = await start();
  const digests: string[] = [];
  for (let i = 0; i < flips; i++) {
    const bytes = randomBytes(randomInt(1, 100_000));
    await putBlob(at, at.write, "acme/norm", bytes);
    digests.push(digestOf(bytes));
    const path = join(at.dataFolder, "blobs", "sha256", digestOf(bytes).slice(7));
    const where = randomInt(bytes.length);
    const byte = readFileSync(path)[where]! ^ (1 << randomInt(8));
    const file = openSync(path, "r+");
    writeSync(file, Buffer.from([byte]), 0, 1, where);
    closeSync(file);
  }
  const care = await openMaintenance({ dataFolder: at.dataFolder });
  const { damaged } = await care.scrub();
  await care.close();
  let served = 0;
  for (const digest of digests) {
    const answer = await fetch(`${at.origin}/v2/acme/norm/blobs/${digest}`, { headers: bearer(at.write) });
    if (answer.ok) served++;
  }
  report("scrub of flipped bits", { flips, found: damaged.length, served_after: served });
  expect([damaged.length, served]).toEqual([flips, 0]);
});

test("idle and dripping connections do not slow others down", async () => {
  const sockets = count("IDLE_SOCKETS", 1000);
  const at = await start();
  const measure = async () => {
    const times: number[] = [];
    for (let i = 0; i < 300; i++) {
      const started = performance.now();
      await (await fetch(`${at.origin}/api/v1/search`)).arrayBuffer();
      times.push(performance.now() - started);
    }
    return percentile(times, 0.99);
  };
  await measure();
  const before = await measure();
  const open = Array.from({ length: sockets }, (_, i) => {
    const socket = connect(Number(new URL(at.origin).port), "127.0.0.1").on("error", () => {});
    // Half say nothing, half begin a header and never end it.
    if (i % 2 === 0) socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    return socket;
  });
  await Promise.all(open.map((socket) => once(socket, "connect")));
  const during = await measure();
  const dripping = open.filter((_, i) => i % 2 === 0);
  const started = performance.now();
  await Promise.all(dripping.map((socket) => (socket.destroyed ? null : once(socket.resume(), "close"))));
  const cutAfter = (performance.now() - started) / 1000;
  for (const socket of open) socket.destroy();
  report("idle and dripping connections", {
    sockets,
    p99_before_ms: Number(before.toFixed(1)),
    p99_during_ms: Number(during.toFixed(1)),
    half_headers_cut_within_s: Math.round(cutAfter),
  });
  expect(cutAfter).toBeLessThan(60);
});
