/** Reviews, notices, feeds and the log's pages, on every database. */
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { contentDigest } from "../../registry-server/store/digests.ts";
import { openRecords } from "../../registry-server/store/open.ts";
import type { NoticeRow, Records } from "../../registry-server/store/records.ts";
import { type Driver, scaleOut, sqliteFolder, title } from "./drivers.ts";

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver);
  });
}

const at = "2026-01-02T03:04:05.678Z";
const later = "2026-01-03T00:00:00.000Z";
const audit = (action: string, subject = "test") => ({ at, actor: "operator", action, subject, details: {} });
const digest = (text: string) => contentDigest(Buffer.from(text));

function suite(driver: Driver): void {
  const open = async (): Promise<Records> => {
    const records = await openRecords(await driver.open());
    onTestFinished(() => records.close());
    return records;
  };
  const staged = (version: string) => ({
    repository: "acme/norm",
    version,
    digest: digest(version),
    askedAt: at,
    askedBy: "token:a",
    document: "{}",
    card: "",
  });
  const decision = { by: "token:b", at: later, reason: "no" };

  test("a version waits once, is found by what it reaches, and is rejected once", async () => {
    const records = await open();
    const stage = () => records.stageVersion(staged("1.0.0"), [digest("x")], audit("version.stage"));
    const outcomes = await Promise.all([stage(), stage(), stage()]);
    expect(outcomes.filter((won) => won)).toHaveLength(1);
    expect(await records.isStaged("acme/norm", digest("x"))).toBe(true);
    expect(await records.isStaged("acme/other", digest("x"))).toBe(false);
    expect((await records.reviewQueue(10)).waiting).toMatchObject([{ version: "1.0.0", state: "staged" }]);
    const target = { repository: "acme/norm", version: "1.0.0" };
    expect(await records.rejectVersion(target, decision, audit("version.reject"))).toBe(true);
    expect(await records.rejectVersion(target, decision, audit("version.reject"))).toBe(false);
    expect(await records.isStaged("acme/norm", digest("x"))).toBe(false);
    expect(await records.reviewsOf("acme/norm")).toMatchObject([
      { state: "rejected", decidedBy: "token:b", reason: "no" },
    ]);
    expect(await stage()).toBe(false);
    expect((await records.auditAfter(0, 10)).map(({ action }) => action)).toEqual(["version.stage", "version.reject"]);
  });

  test("what waits is kept by a collection", async () => {
    const records = await open();
    const row = {
      repository: "acme/norm",
      digest: digest("m"),
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      artifactType: null,
      subject: null,
      annotations: null,
      bytes: Buffer.from("m"),
      visible: 0,
    } as const;
    await records.addManifest(row, { blobs: [], manifests: [] }, { at, by: "token:a" });
    await records.stageVersion(staged("1.0.0"), [digest("m")], audit("version.stage"));
    expect(await records.collect(later, false, later)).toMatchObject({ manifests: 0 });
    await records.rejectVersion({ repository: "acme/norm", version: "1.0.0" }, decision, audit("version.reject"));
    expect(await records.collect(later, false, later)).toMatchObject({ manifests: 1 });
  });

  test("a notice takes the place of the one that was seen, and of no other", async () => {
    const records = await open();
    const row = (body: string): NoticeRow => ({
      ...{ kind: "advisory", id: "A-1", body, filedAt: at, filedBy: "operator", withdrawnAt: null },
    });
    const put = (body: string, before: string | null) =>
      records.putNotice(row(body), before, ["acme/norm"], audit("advisory.file"));
    expect(await put("1", null)).toBe(true);
    expect(await put("2", null)).toBe(false);
    expect(await put("2", "0")).toBe(false);
    expect(await put("2", "1")).toBe(true);
    expect(await records.notices("advisory")).toMatchObject([{ id: "A-1", body: "2" }]);
    expect(await records.advisoriesOf("acme/norm")).toHaveLength(1);
    expect(await records.advisoriesOf("acme/other")).toEqual([]);
  });

  test("a feed's number only rises, whoever is faster, and may be large", async () => {
    const records = await open();
    const made = { id: "acme", kind: "revocations", keys: "[]", createdAt: at } as const;
    expect(await records.addServedFeed(made, audit("feed.create"))).toBe(true);
    expect(await records.addServedFeed(made, audit("feed.create"))).toBe(false);
    const put = (sequence: number) =>
      records.putFeedBundle(
        { id: "acme", sequence, issued: at, bundle: Buffer.from(String(sequence)), at, by: "operator" },
        audit("feed.put"),
      );
    await Promise.all([3, 1, 2, 5, 4].map(put));
    expect((await records.servedFeed("acme"))?.sequence).toBe(5);
    expect(String(await records.feedBundle("acme"))).toBe("5");
    expect(await put(5)).toBe(false);
    expect(await put(999_999_999_999)).toBe(true);
    expect((await records.servedFeeds()).map(({ sequence }) => sequence)).toEqual([999_999_999_999]);
  });

  test("the log is read newest first, in pages, by how its parts begin", async () => {
    const records = await open();
    for (let i = 1; i <= 5; i++)
      await records.appendAudit(audit(i % 2 === 0 ? "tag.put" : "version.yank", `acme/n${i}`));
    const page = async (filter: object, before: number, limit = 10) =>
      (await records.auditPage({ actor: "", action: "", subject: "", ...filter }, before, limit)).map(({ seq }) => seq);
    expect(await page({}, 0, 2)).toEqual([5, 4]);
    expect(await page({}, 4)).toEqual([3, 2, 1]);
    expect(await page({ action: "version." }, 0)).toEqual([5, 3, 1]);
    expect(await page({ action: "version.", subject: "acme/n3" }, 0)).toEqual([3]);
    expect(await page({ actor: "token:" }, 0)).toEqual([]);
    expect(await page({ subject: "%" }, 0)).toEqual([]);
    expect(await records.auditActor("tag.put", "acme/n2")).toBe("operator");
    expect(await records.auditActor("tag.put", "acme/n9")).toBeUndefined();
  });

  test("the last time of each chore is remembered, and the database knows its size", async () => {
    const records = await open();
    await records.noteChore("gc", at, { blobs: 1 });
    await records.noteChore("gc", later, { blobs: 2 });
    expect(await records.chores()).toEqual([{ name: "gc", at: later, outcome: '{"blobs":2}' }]);
    const { bytes, schema } = await records.databaseFacts();
    expect(bytes).toBeGreaterThan(10_000);
    expect(schema).toBeGreaterThan(2);
    expect(await records.countDamaged()).toBe(0);
  });
}
