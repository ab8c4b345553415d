/** What a blob store must do, whichever it is. */
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import type { BlobStore } from "../../registry-server/store/blobs.ts";
import { type Algorithm, type ContentDigest, contentDigest } from "../../registry-server/store/digests.ts";
import { openBlobs } from "../../registry-server/store/open.ts";
import { type Driver, scaleOut, sqliteFolder, title } from "./drivers.ts";

const maxBlobBytes = 8 << 20;

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver);
  });
}

function suite(driver: Driver): void {
  const open = async (): Promise<BlobStore> => {
    const store = openBlobs(await driver.open(), { maxBlobBytes });
    onTestFinished(async () => store.close?.());
    return store;
  };
  const put = async (store: BlobStore, bytes: Buffer, digest = contentDigest(bytes)) => {
    const incoming = await store.begin();
    await incoming.append(pieces(bytes));
    await incoming.commit(digest, async () => {});
    return digest;
  };

  test.each([0, 1, 1000, 65_536, 3_000_001])("%i bytes come back as they went in", async (size) => {
    const store = await open();
    const bytes = randomBytes(size);
    const digest = await put(store, bytes);
    expect(await store.size(digest)).toBe(size);
    expect((await store.readAll(digest)).equals(bytes)).toBe(true);
    expect((await buffer(store.read(digest))).equals(bytes)).toBe(true);
  });

  test.each([
    [0, 0],
    [0, 999],
    [500, 700],
    [999, 999],
  ])("the range %i to %i is those bytes", async (start, end) => {
    const store = await open();
    const bytes = randomBytes(1000);
    const digest = await put(store, bytes);
    expect((await buffer(store.read(digest, { start, end }))).equals(bytes.subarray(start, end + 1))).toBe(true);
  });

  test.each<Algorithm>(["sha256", "sha512"])("a blob is named by its %s", async (algorithm) => {
    const store = await open();
    const bytes = Buffer.from("named");
    const digest = await put(store, bytes, contentDigest(bytes, algorithm));
    expect((await store.readAll(digest)).toString()).toBe("named");
    const other = contentDigest(bytes, algorithm === "sha256" ? "sha512" : "sha256");
    expect(await store.size(other)).toBeUndefined();
  });

  test("what was not put is not there", async () => {
    const store = await open();
    const digest = contentDigest(Buffer.from("nothing"));
    expect(await store.size(digest)).toBeUndefined();
    await expect(store.readAll(digest)).rejects.toThrow();
    await expect(buffer(store.read(digest))).rejects.toThrow();
  });

  test("bytes of another digest are refused and not stored", async () => {
    const store = await open();
    const wrong = contentDigest(Buffer.from("other"));
    await expect(put(store, Buffer.from("bytes"), wrong)).rejects.toMatchObject({
      code: "KL_REGISTRY_DIGEST_MISMATCH",
    });
    expect(await digests(store)).toEqual([]);
  });

  test("nothing is stored when the announcement fails", async () => {
    const store = await open();
    const bytes = Buffer.from("announced");
    const incoming = await store.begin();
    await incoming.append(pieces(bytes));
    const refused = incoming.commit(contentDigest(bytes), () => Promise.reject(new Error("no")));
    await expect(refused).rejects.toThrow("no");
    expect(await digests(store)).toEqual([]);
  });

  test("an upload grows by appending, and can be given up", async () => {
    const store = await open();
    const bytes = randomBytes(300_000);
    const incoming = await store.begin();
    await incoming.append(pieces(bytes.subarray(0, 100_000)));
    expect(incoming.size).toBe(100_000);
    await incoming.append(pieces(bytes.subarray(100_000)));
    await incoming.commit(contentDigest(bytes), async () => {});
    await incoming.abort();
    const given = await store.begin();
    await given.append(pieces(bytes));
    await given.abort();
    expect(await digests(store)).toEqual([contentDigest(bytes)]);
  });

  test("an upload over the limit is refused", async () => {
    const store = await open();
    const incoming = await store.begin();
    const large = incoming.append(pieces(Buffer.alloc(maxBlobBytes + 1)));
    await expect(large).rejects.toMatchObject({ code: "KL_REGISTRY_BLOB_TOO_LARGE" });
    await incoming.abort();
  });

  test("the same bytes put twice, also at once, are one blob", async () => {
    const store = await open();
    const bytes = randomBytes(200_000);
    await Promise.all(Array.from({ length: 5 }, () => put(store, bytes)));
    await put(store, bytes);
    expect(await digests(store)).toEqual([contentDigest(bytes)]);
    expect((await store.readAll(contentDigest(bytes))).equals(bytes)).toBe(true);
  });

  test("what is removed is gone; removing nothing is harmless", async () => {
    const store = await open();
    const digest = await put(store, Buffer.from("short-lived"));
    await store.remove(digest);
    await store.remove(digest);
    expect(await store.size(digest)).toBeUndefined();
    await put(store, Buffer.from("short-lived"));
    expect(await store.size(digest)).toBe(11);
  });

  test("what is set aside is out of reach, and may come again", async () => {
    const store = await open();
    const digest = await put(store, Buffer.from("damaged"));
    await store.setAside(digest);
    expect(await store.size(digest)).toBeUndefined();
    expect(await digests(store)).toEqual([]);
    await put(store, Buffer.from("damaged"));
    expect(await store.size(digest)).toBe(7);
  });

  test("all blobs are listed with their sizes", async () => {
    const store = await open();
    const wanted = new Map<ContentDigest, number>();
    for (let size = 1; size <= 30; size++) wanted.set(await put(store, randomBytes(size)), size);
    const found = new Map<ContentDigest, number>();
    for await (const { digest, size } of store.list()) found.set(digest, size);
    expect(found).toEqual(wanted);
  });

  test("it says that it can be written to", async () => {
    await (await open()).check();
  });

  test("an address that it signs, if it signs any, gives the bytes to anybody, for a while", async () => {
    const store = await open();
    // A folder signs nothing: its bytes always go through the registry.
    expect(store.presign === undefined).toBe(driver.name.includes("folder"));
    if (store.presign === undefined) return;
    const bytes = randomBytes(10_000);
    const digest = await put(store, bytes);
    const address = await store.presign(digest, 60);
    const answer = await fetch(address);
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    const forged = address.replace(digest.split(":")[1]!, "0".repeat(64));
    expect((await fetch(forged)).status).toBe(403);
  });
}

async function digests(store: BlobStore): Promise<ContentDigest[]> {
  const found: ContentDigest[] = [];
  for await (const { digest } of store.list()) found.push(digest);
  return found;
}

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.byteLength; at += 50_000) yield bytes.subarray(at, at + 50_000);
}
