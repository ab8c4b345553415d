import { spawnSync } from "node:child_process";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { afterEach, describe, expect, test } from "vitest";
import { type Cache, fetchLocked, openCache, type Progress, verifyLocked } from "../index.ts";
import { codeOf, newFolder, now, scene } from "./kit.ts";

const { registry, client, policy, lock } = await scene();
const payload = lock.kernels["acme/norm"]!.variants[0]!.files[1]!;
const newCache = () => openCache(join(newFolder(), "cache"));
const fetch = (cache: Cache, more = {}) => fetchLocked({ lock, cache, registry: client, ...more });
afterEach(() => {
  registry.intercept = () => false;
  registry.requests.length = 0;
});

describe("fetching a lock", () => {
  test("fills the cache with everything that it pins, and with nothing else", async () => {
    const cache = newCache();
    const steps: Progress[] = [];
    const result = await fetch(cache, { onProgress: (step: Progress) => steps.push(step) });
    // Two indexes, three variants (manifest, config, library), one card each, five statements.
    expect(result).toMatchObject({ fetchedFiles: 2 + 3 * 3 + 2 + 5, presentFiles: 0 });
    expect(readdirSync(cache.folder)).toEqual(["blobs", "partial"]);
    expect(readdirSync(join(cache.folder, "partial"))).toEqual([]);
    const files = readdirSync(join(cache.folder, "blobs", "sha256"));
    expect(files).toHaveLength(result.fetchedFiles);
    for (const name of files) {
      expect(digestOf(readFileSync(join(cache.folder, "blobs", "sha256", name)))).toBe(`sha256:${name}`);
    }
    expect(steps.at(-1)).toMatchObject({ doneFiles: result.fetchedFiles, doneBytes: result.fetchedBytes });
    expect(steps.every((step, i) => i === 0 || step.doneBytes >= steps[i - 1]!.doneBytes)).toBe(true);
    expect((await verifyLocked({ lock, policy, cache, now, frozen: true })).ok).toBe(true);

    registry.requests.length = 0;
    expect(await fetch(cache)).toMatchObject({ fetchedFiles: 0, presentFiles: result.fetchedFiles });
    expect(registry.requests).toEqual([]);
  });

  test("may be of some kernels only", async () => {
    const cache = newCache();
    await fetch(cache, { names: ["acme/moe"], concurrency: 1 });
    expect((await verifyLocked({ lock, policy, cache, now, names: ["acme/moe"] })).ok).toBe(true);
  });

  test.each([
    ["a flipped file", (path: string) => writeFileSync(path, Buffer.alloc(payload.size, 7))],
    ["a cut file", (path: string) => writeFileSync(path, "x")],
    ["a missing file", (path: string) => rmSync(path)],
    [
      "a link",
      (path: string) => {
        rmSync(path);
        symlinkSync("/etc/hostname", path);
      },
    ],
  ])("repairs %s and touches nothing else", async (_, spoil) => {
    const cache = newCache();
    await fetch(cache);
    spoil(cache.pathOf(payload));
    expect(await fetch(cache)).toMatchObject({ fetchedFiles: 1 });
    expect(digestOf(readFileSync(cache.pathOf(payload)))).toBe(payload.digest);
    expect(statSync(cache.pathOf(payload)).isFile()).toBe(true);
  });

  test("says so when the cache cannot be written", async () => {
    const blocked = join(newFolder(), "file");
    writeFileSync(blocked, "");
    expect(await codeOf(() => fetch(openCache(join(blocked, "cache"))))).toBe("KL_CACHE_WRITE");
  });

  test("refuses a folder in a file's place", async () => {
    const cache = newCache();
    mkdirSync(join(cache.pathOf(payload), "x"), { recursive: true });
    expect(await codeOf(() => fetch(cache))).toBe("KL_CACHE_FILE");
  });
});

describe("a download that was cut off", () => {
  /** What an earlier, killed fetch leaves. */
  function partial(cache: Cache, bytes: Uint8Array): string {
    const path = join(cache.folder, "partial", payload.digest.slice(7));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
    return path;
  }
  const whole = registry.blobs.get(payload.digest)!;
  const rangesOf = (): (string | undefined)[] => {
    const ranges: (string | undefined)[] = [];
    registry.intercept = (request, _, digest) => {
      if (digest === payload.digest) ranges.push(request.headers.range);
      return false;
    };
    return ranges;
  };

  test("goes on where it stopped", async () => {
    const cache = newCache();
    partial(cache, whole.subarray(0, 5000));
    const ranges = rangesOf();
    await fetch(cache);
    expect(ranges).toEqual(["bytes=5000-"]);
    expect(digestOf(readFileSync(cache.pathOf(payload)))).toBe(payload.digest);
  });

  test("goes on where a killed process stopped, or one that fell silent; not where another is at work", async () => {
    const dead = spawnSync("true").pid;
    const old = new Date(Date.now() - 3_600_000);
    for (const [pid, time, range] of [
      [dead, new Date(), "bytes=5000-"],
      [process.pid, old, "bytes=5000-"],
      [process.pid, new Date(), undefined],
    ] as const) {
      const cache = newCache();
      const path = `${partial(cache, whole.subarray(0, 5000))}.${pid}-0a1b2c3d4e5f`;
      renameSync(path.replace(/\.\d+-.*/, ""), path);
      utimesSync(path, time, time);
      const ranges = rangesOf();
      await fetch(cache);
      expect(ranges).toEqual([range]);
      expect(existsSync(path)).toBe(range === undefined);
    }
  });

  test("is complete without another request when all bytes had come", async () => {
    const cache = newCache();
    partial(cache, whole);
    const ranges = rangesOf();
    await fetch(cache);
    expect(ranges).toEqual([]);
  });

  test.each([
    ["other bytes", Buffer.alloc(5000, 1)],
    ["more bytes than there are", Buffer.alloc(whole.byteLength + 1, 1)],
    ["as many other bytes", Buffer.alloc(whole.byteLength, 1)],
  ])("starts over when it left %s", async (_, bytes) => {
    const cache = newCache();
    partial(cache, bytes);
    const ranges = rangesOf();
    await fetch(cache);
    expect(ranges.at(-1)).toBeUndefined();
    expect(digestOf(readFileSync(cache.pathOf(payload)))).toBe(payload.digest);
  });

  test.each([
    ["a symbolic link", symlinkSync],
    ["a hard link", linkSync],
  ])("is not written through %s", async (_, link) => {
    const cache = newCache();
    const victim = join(newFolder(), "victim");
    writeFileSync(victim, "precious");
    const path = join(cache.folder, "partial", payload.digest.slice(7));
    mkdirSync(dirname(path), { recursive: true });
    link(victim, path);
    await fetch(cache);
    expect(readFileSync(victim, "utf8")).toBe("precious");
  });

  test("keeps what came when the connection breaks for good", async () => {
    const cache = newCache();
    registry.intercept = (request, response, digest) => {
      if (digest !== payload.digest) return false;
      if (request.headers.range !== undefined) {
        request.socket.destroy();
        return true;
      }
      response.writeHead(200, { "content-length": whole.byteLength });
      response.write(whole.subarray(0, 4000), () => setTimeout(() => request.socket.destroy(), 50));
      return true;
    };
    expect(await codeOf(() => fetch(cache))).toMatch(/^KL_OCI_/);
    const left = readFileSync(join(cache.folder, "partial", payload.digest.slice(7)));
    expect(left.equals(whole.subarray(0, left.byteLength)) && left.byteLength > 0).toBe(true);
    registry.intercept = () => false;
    await fetch(cache);
    expect(digestOf(readFileSync(cache.pathOf(payload)))).toBe(payload.digest);
  });
});

describe("a registry that serves something else under a digest is refused", () => {
  test.each([
    ["other bytes", (bytes: Uint8Array) => Buffer.from(bytes).fill(0, 100, 101)],
    ["fewer bytes", (bytes: Uint8Array) => bytes.subarray(1)],
    ["more bytes", (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.from("x")])],
  ])("%s, and nothing gets the name or stays", async (_, change) => {
    const cache = newCache();
    const wrong = change(registry.blobs.get(payload.digest)!);
    if (digestOf(wrong) === payload.digest) wrong[100]! ^= 1;
    registry.intercept = (_request, response, digest) => {
      if (digest !== payload.digest) return false;
      response.writeHead(200, { "content-length": wrong.byteLength }).end(wrong);
      return true;
    };
    expect(await codeOf(() => fetch(cache))).toMatch(/^KL_OCI_(DIGEST_MISMATCH|SIZE)$/);
    expect(() => statSync(cache.pathOf(payload))).toThrow();
    expect(readdirSync(join(cache.folder, "partial"))).toEqual([]);
  });

  test("another manifest", async () => {
    const { index } = lock.kernels["acme/moe"]!;
    const before = registry.manifests.get(index.digest)!;
    registry.manifests.set(index.digest, { ...before, bytes: Buffer.from(before.bytes).fill("x", 20, 21) });
    const cache = newCache();
    expect(await codeOf(() => fetch(cache))).toBe("KL_OCI_DIGEST_MISMATCH");
    registry.manifests.set(index.digest, before);
  });
});

test("two fetches into one cache at once both succeed", async () => {
  const cache = newCache();
  await Promise.all([fetch(cache), fetch(cache)]);
  expect((await verifyLocked({ lock, policy, cache, now })).ok).toBe(true);
  expect(readdirSync(join(cache.folder, "partial"))).toEqual([]);
});
