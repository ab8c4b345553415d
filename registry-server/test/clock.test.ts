/** Clocks that jump by a day, back and ahead, while a server runs: what expired stays expired, what is published stays. */
import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { neverBack } from "../clock.ts";
import { collectGarbage } from "../index.ts";
import { openBlobs, openRecords } from "../store/open.ts";
import { bearer, makePackage, publish, pushAll, putTag, startRegistry, stored } from "./material.ts";

const day = 24 * 3600_000;

/** A wall clock that is set at will, and a monotonic one that goes on by itself. */
function clocks() {
  const real = performance.now();
  const start = Date.parse("2026-11-25T12:00:00.000Z");
  let elapsed = 0;
  let ahead = 0;
  const monotonic = () => elapsed + performance.now() - real;
  return {
    now: neverBack(() => new Date(start + monotonic() + ahead), monotonic),
    pass(ms: number) {
      elapsed += ms;
    },
    jump(ms: number) {
      ahead += ms;
    },
    at: (ms: number) => new Date(start + ms),
  };
}

test("a token that expires does so on time, however the clock jumps", async () => {
  const clock = clocks();
  const at = await startRegistry({ now: clock.now });
  const { token } = await at.registry.createToken({ namespace: "acme", role: "reader", expiresAt: clock.at(3600_000) });
  const status = async () => (await fetch(`${at.origin}/v2/`, { headers: bearer(token) })).status;
  expect(await status()).toBe(200);
  clock.jump(-day);
  expect(await status()).toBe(200);
  clock.pass(2 * 3600_000);
  // By the wall it has 23 hours more.
  expect(await status()).toBe(401);
  clock.jump(day);
  expect(await status()).toBe(401);
});

test("a clock that runs ahead ends tokens early, and not for good once it is right again", async () => {
  const clock = clocks();
  const at = await startRegistry({ now: clock.now });
  const { token } = await at.registry.createToken({ namespace: "acme", role: "reader", expiresAt: clock.at(3600_000) });
  const status = async () => (await fetch(`${at.origin}/v2/`, { headers: bearer(token) })).status;
  clock.jump(day);
  expect(await status()).toBe(401);
  clock.jump(-day);
  expect(await status()).toBe(200);
});

test.each([day, -day])("a jump of %i ms costs nothing that is published, and publishing goes on", async (ms) => {
  const clock = clocks();
  const at = await startRegistry({ now: clock.now });
  const first = makePackage();
  await publish(at, first);
  const second = makePackage({ version: "2.0.0", card: "# two\n" });
  await pushAll(at, second);
  clock.jump(ms);
  await at.registry.collectGarbage();
  for (const bytes of first.blobs) {
    const answer = await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bytes)}`);
    expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(digestOf(bytes));
  }
  // Its blobs look a day old where the clock went ahead, and may be gone: then it is refused, whole.
  expect((await putTag(at, second)).status).toBe(ms > 0 ? 400 : 201);
  await publish(at, makePackage({ version: "3.0.0", card: "# three\n" }));
  const rows = await at.registry.auditAfter(0, 1000);
  expect(rows.map((row) => row.at)).toEqual(rows.map((row) => row.at).toSorted());
  expect(await at.registry.verifyAudit()).toMatchObject({ broken: null });
});

test("a collection whose lease another node took, by a clock that is ahead, removes nothing more", async () => {
  const at = await startRegistry();
  await pushAll(at, makePackage({ card: "# never published\n" }));
  const before = stored(at);
  const records = await openRecords({ dataFolder: at.folder });
  const blobs = openBlobs({ dataFolder: at.folder, sharesUploads: true }, { maxBlobBytes: 0 });
  const later = (ms: number) => new Date(Date.now() + ms).toISOString();
  let removed = 0;
  const slow = {
    ...blobs,
    async remove(digest: Parameters<typeof blobs.remove>[0]) {
      await blobs.remove(digest);
      removed++;
      expect(await records.takeLease("collection", "another", later(day), later(2 * day))).toBe(true);
    },
  };
  const collecting = collectGarbage({ records, blobs: slow, now: () => new Date() }, { graceSeconds: -1 });
  await expect(collecting).rejects.toMatchObject({ code: "KL_REGISTRY_BUSY" });
  expect([removed, stored(at).length]).toEqual([1, before.length - 1]);
  await records.dropLease("collection", "another");
  await collectGarbage({ records, blobs, now: () => new Date() }, { graceSeconds: -1 });
  expect(stored(at)).toEqual([]);
  await records.close();
});
