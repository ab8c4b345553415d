/** What the database must do, whichever it is. */

import { mediaTypes } from "@kernlock/kernels/format";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import type { Namespace, TokenInfo } from "../../registry-server/admin.ts";
import { contentDigest } from "../../registry-server/store/digests.ts";
import { openRecords } from "../../registry-server/store/open.ts";
import type { ManifestRow, NewVersion, Records } from "../../registry-server/store/records.ts";
import { type Driver, scaleOut, sqliteFolder, title } from "./drivers.ts";

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver);
  });
}

const at = "2026-01-02T03:04:05.678Z";
const later = "2026-01-03T00:00:00.000Z";
const put = { at, by: "operator" };
const audit = (action: string, subject = "test") => ({ at, actor: "operator", action, subject, details: { n: 1 } });
const digest = (text: string) => contentDigest(Buffer.from(text));
const namespace = (name: string, more: Partial<Namespace> = {}): Namespace => ({
  name,
  visibility: "public",
  policy: "",
  kind: "kernels",
  deletion: "never",
  review: "none",
  createdAt: at,
  ...more,
});
const manifest = (text: string, more: Partial<ManifestRow> = {}): ManifestRow => ({
  repository: "acme/norm",
  digest: digest(text),
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  artifactType: null,
  subject: null,
  annotations: null,
  bytes: Buffer.from(text),
  visible: 0,
  ...more,
});
const version = (text: string, words: Partial<Record<"summary" | "ops" | "card", string>> = {}): NewVersion => ({
  version: {
    repository: "acme/norm",
    version: text,
    digest: digest(`index ${text}`),
    publishedAt: `2026-01-01T00:00:00.${text.split(".")[0]!.padStart(3, "0")}Z`,
    tokenId: "t",
    verdict: "{}",
    document: "{}",
    card: "<p>card</p>",
  },
  content: [digest(`index ${text}`), digest("shared"), digest(`own ${text}`)],
  kernel: () => ({
    row: {
      repository: "acme/norm",
      namespace: "acme",
      latest: text,
      summary: "A norm",
      license: "MIT",
      publishedAt: at,
    },
    search: { summary: "A norm", ops: "rmsnorm", backends: "cuda sm90a", card: "fast and exact", ...words },
  }),
  // Nothing but the empty policy of `namespace`.
  judged: {
    namespace: "acme",
    stamp: '[{"policy":"","review":"none"},[],[]]',
    subjects: [digest(`index ${text}`)],
    bundles: [],
  },
});

function suite(driver: Driver): void {
  const open = async (): Promise<Records> => {
    const records = await openRecords(await driver.open());
    onTestFinished(() => records.close());
    return records;
  };
  /** All that a version reaches, then its commit. */
  const commit = async (records: Records, text: string) => {
    await pushed(records, text);
    return records.commitVersion(version(text), audit("version.publish"));
  };
  const pushed = async (records: Records, text: string) => {
    for (const content of ["shared", `own ${text}`]) await blob(records, content);
    await records.addManifest(manifest(`index ${text}`), { blobs: [], manifests: [] }, put);
  };
  const withAcme = async () => {
    const records = await open();
    await records.addNamespace(namespace("acme"), audit("namespace.create"));
    return records;
  };
  const blob = (records: Records, text: string, repository = "acme/norm") =>
    records.addBlob({ repository, digest: digest(text), size: text.length, now: at });

  test("a namespace may exist once, is listed by name, and changes", async () => {
    const records = await open();
    expect(await records.addNamespace(namespace("b"), audit("c"))).toBe(true);
    expect(await records.addNamespace(namespace("a", { kind: "artifacts" }), audit("c"))).toBe(true);
    expect(await records.addNamespace(namespace("a"), audit("c"))).toBe(false);
    expect((await records.namespaces()).map((n) => n.name)).toEqual(["a", "b"]);
    await records.updateNamespace(namespace("b", { policy: "new", visibility: "private" }), audit("u"));
    expect(await records.namespace("b")).toEqual(namespace("b", { policy: "new", visibility: "private" }));
    expect(await records.namespace("c")).toBeUndefined();
  });

  test("a token is found by its hash, bytes and all", async () => {
    const records = await withAcme();
    const info: TokenInfo = {
      id: "one",
      namespace: "acme",
      package: "acme/norm",
      role: "auditor",
      label: "é ✓",
      identity: null,
      createdAt: at,
      expiresAt: later,
    };
    const hash = Buffer.from([0, 1, 255, 128, 39]);
    await records.addToken(info, hash, audit("token.create"));
    expect(await records.tokenByHash(hash)).toEqual(info);
    expect(await records.tokenByHash(Buffer.from([1]))).toBeUndefined();
    expect(await records.tokens("acme")).toEqual([info]);
    expect(await records.removeToken("one", audit("token.revoke"))).toBe(true);
    expect(await records.removeToken("one", audit("token.revoke"))).toBe(false);
  });

  test("an identity is used once; expired tokens of identities are forgotten", async () => {
    const records = await withAcme();
    expect(await records.useIdentity("x", at)).toBe(true);
    expect(await records.useIdentity("x", at)).toBe(false);
    const token = { namespace: "acme", package: null, role: "publisher", label: "", createdAt: at } as const;
    await records.addToken({ ...token, id: "ci", identity: "{}", expiresAt: at }, Buffer.from("1"), audit("t"));
    await records.addToken({ ...token, id: "own", identity: null, expiresAt: at }, Buffer.from("2"), audit("t"));
    await records.forgetExpired(later);
    expect((await records.tokens("acme")).map((t) => t.id)).toEqual(["own"]);
    expect(await records.useIdentity("x", later)).toBe(true);
  });

  test("a trusted publisher comes back with its claims", async () => {
    const records = await withAcme();
    const row = {
      id: "p",
      namespace: "acme",
      package: null,
      kind: "github",
      issuer: "https://issuer.example",
      claims: { repository: "acme/norm", sub: 'quote " and ? mark' },
      label: "",
      createdAt: at,
    } as const;
    await records.addTrustedPublisher(row, audit("p"));
    expect(await records.trustedPublishers({ issuer: row.issuer })).toEqual([row]);
    expect(await records.trustedPublishers({ namespace: "acme" })).toEqual([row]);
    expect(await records.trustedPublishers({ namespace: "other" })).toEqual([]);
  });

  test("a blob belongs to the repositories that were told of it", async () => {
    const records = await withAcme();
    await blob(records, "bytes");
    expect(await records.blob("acme/norm", digest("bytes"))).toEqual({
      visible: 0,
      size: 5,
      state: "present",
      touchedAt: at,
    });
    expect(await records.blob("acme/other", digest("bytes"))).toBeUndefined();
    expect(await records.mountBlob({ repository: "acme/other", digest: digest("bytes"), now: later })).toBe(true);
    expect(await records.mountBlob({ repository: "acme/other", digest: digest("none"), now: later })).toBe(false);
    expect(await records.repositoriesWith(digest("bytes"), 10)).toEqual(["acme/norm", "acme/other"]);
  });

  test("a manifest is stored once, with its bytes, and only where its blobs are", async () => {
    const records = await withAcme();
    const row = manifest("m", { annotations: '{"a":"b"}' });
    const names = { blobs: [digest("layer")], manifests: [] };
    expect(await records.addManifest(row, names, put)).toEqual({ added: false, missing: digest("layer") });
    expect(await records.manifest("acme/norm", row.digest)).toBeUndefined();
    await blob(records, "layer");
    expect(await records.addManifest(row, names, put)).toEqual({ added: true });
    expect(await records.addManifest(row, names, put)).toEqual({ added: false });
    expect(await records.manifest("acme/norm", row.digest)).toEqual(row);
  });

  test("a visible manifest makes its blobs visible", async () => {
    const records = await withAcme();
    await blob(records, "layer");
    await records.addManifest(manifest("m", { visible: 1 }), { blobs: [digest("layer")], manifests: [] }, put);
    expect((await records.blob("acme/norm", digest("layer")))?.visible).toBe(1);
  });

  test("only what is not published is removed as unpublished", async () => {
    const records = await withAcme();
    await records.addManifest(manifest("hidden"), { blobs: [], manifests: [] }, put);
    await records.addManifest(manifest("open", { visible: 1 }), { blobs: [], manifests: [] }, put);
    await records.removeUnpublished("acme/norm", digest("hidden"));
    await records.removeUnpublished("acme/norm", digest("open"));
    expect(await records.manifest("acme/norm", digest("hidden"))).toBeUndefined();
    expect(await records.manifest("acme/norm", digest("open"))).toBeDefined();
  });

  test("referrers come in the order they came", async () => {
    const records = await withAcme();
    for (const [i, text] of ["c", "a", "b"].entries()) {
      const row = manifest(text, { subject: digest("subject") });
      await records.addManifest(row, { blobs: [], manifests: [] }, { ...put, at: `2026-01-01T00:00:0${i}.000Z` });
    }
    const found = await records.referrers("acme/norm", digest("subject"));
    expect(found.map((row) => row.bytes.toString())).toEqual(["c", "a", "b"]);
  });

  test("tags move, are paged in byte order, and go with their manifest", async () => {
    const records = await withAcme();
    await records.addManifest(manifest("one"), { blobs: [], manifests: [] }, put);
    await records.addManifest(manifest("two"), { blobs: [], manifests: [] }, put);
    for (const tag of ["b", "a", "B", "1", "_", "a-b"]) {
      await records.putTag("acme/norm", tag, digest("one"), at, audit("tag.put"));
    }
    await records.putTag("acme/norm", "b", digest("two"), later, audit("tag.put"));
    expect(await records.tag("acme/norm", "b")).toBe(digest("two"));
    expect(await records.movingTags("acme/norm", "", 100)).toEqual(["1", "B", "_", "a", "a-b", "b"]);
    expect(await records.movingTags("acme/norm", "B", 2)).toEqual(["_", "a"]);
    expect(await records.removeTag("acme/norm", "a-b", audit("tag.delete"))).toBe(true);
    expect(await records.removeTag("acme/norm", "a-b", audit("tag.delete"))).toBe(false);
    expect(await records.deleteManifest("acme/norm", digest("one"), audit("manifest.delete"))).toBe(true);
    expect(await records.movingTags("acme/norm", "", 100)).toEqual(["b"]);
  });

  test("of many who commit one version at once, one does", async () => {
    const records = await withAcme();
    await pushed(records, "1.0.0");
    const commits = Array.from({ length: 20 }, () => records.commitVersion(version("1.0.0"), audit("version.publish")));
    expect((await Promise.all(commits)).toSorted()).toEqual(["committed", ...Array(19).fill("exists")]);
    expect((await records.auditAfter(0, 100)).filter((row) => row.action === "version.publish")).toHaveLength(1);
  });

  test("a commit reveals what the version reaches", async () => {
    const records = await withAcme();
    await blob(records, "unrelated");
    expect(await commit(records, "1.0.0")).toBe("committed");
    expect((await records.blob("acme/norm", digest("own 1.0.0")))?.visible).toBe(1);
    expect((await records.blob("acme/norm", digest("unrelated")))?.visible).toBe(0);
    expect((await records.manifest("acme/norm", digest("index 1.0.0")))?.visible).toBe(1);
    expect(await records.version("acme/norm", "1.0.0")).toMatchObject({ state: "ok", stateReason: null });
  });

  test("a version is not committed once what it was judged by has changed, or what it reaches is gone", async () => {
    const records = await withAcme();
    const attempt = () => records.commitVersion(version("1.0.0"), audit("version.publish"));
    await blob(records, "shared");
    await records.addManifest(manifest("index 1.0.0"), { blobs: [], manifests: [] }, put);
    expect(await attempt(), "a file is not here").toBe("changed");
    await blob(records, "own 1.0.0");

    await records.updateNamespace(namespace("acme", { policy: "tighter" }), audit("namespace.update"));
    expect(await attempt(), "another policy").toBe("changed");
    await records.updateNamespace(namespace("acme", { review: "required" }), audit("namespace.update"));
    expect(await attempt(), "a review").toBe("changed");
    await records.updateNamespace(namespace("acme"), audit("namespace.update"));

    const feed = { namespace: "acme", id: "revoked", document: Buffer.from("1"), digest: "sha256:1", sequence: 1, at };
    expect(await records.putFeed(feed, audit("feed.take"))).toBe("taken");
    expect(await attempt(), "a feed").toBe("changed");
    await records.removeFeed("acme", "revoked", audit("feed.remove"));

    const kept = { digest: "sha256:2", bundle: Buffer.from("2"), addedAt: at };
    for (const owner of ["acme", "*"]) {
      await records.addException({ ...kept, namespace: owner }, audit("exception.keep"));
      expect(await attempt(), `an exception of ${owner}`).toBe("changed");
      await records.removeException(owner, kept.digest, audit("exception.remove"));
    }
    await records.addException({ ...kept, namespace: "other" }, audit("exception.keep"));

    const bundle = { artifactType: mediaTypes.bundle, subject: digest("index 1.0.0") };
    await records.addManifest(manifest("late bundle", bundle), { blobs: [], manifests: [] }, put);
    expect(await attempt(), "a bundle that was not judged").toBe("changed");
    await records.deleteManifest("acme/norm", digest("late bundle"), audit("manifest.delete"));
    expect(await records.version("acme/norm", "1.0.0")).toBeUndefined();
    expect(await attempt()).toBe("committed");
  });

  test("a version is not committed for a token that was revoked", async () => {
    const records = await withAcme();
    await pushed(records, "1.0.0");
    const { judged, ...rest } = version("1.0.0");
    const entry = { ...rest, judged: { ...judged, token: "absent" } };
    expect(await records.commitVersion(entry, audit("version.publish"))).toBe("revoked");
    expect(await records.version("acme/norm", "1.0.0")).toBeUndefined();
  });

  test("numbers of feeds never go back, and the newest copy stays", async () => {
    const records = await withAcme();
    const copy = (sequence: number, text = `${sequence}`) =>
      records.putFeed(
        { namespace: "acme", id: "f", url: null, document: Buffer.from(text), digest: digest(text), sequence, at },
        audit("feed.take"),
      );
    expect([await copy(3), await copy(2), await copy(3), await copy(4)]).toEqual(["taken", "older", "same", "taken"]);
    await records.noteFeedProblem("acme", "f", "unreachable", later);
    expect(await records.feedDocuments("acme")).toMatchObject([
      { id: "f", sequence: 4, document: Buffer.from("4"), problem: "unreachable", triedAt: later, takenAt: at },
    ]);
    expect((await records.auditAfter(0, 100)).filter(({ action }) => action === "feed.take")).toHaveLength(2);
    expect(await records.removeFeed("acme", "f", audit("feed.remove"))).toBe(true);
    expect(await records.removeFeed("acme", "f", audit("feed.remove"))).toBe(false);
  });

  test("bundles have bounded room, and what is here needs none", async () => {
    const records = await withAcme();
    await records.addManifest(manifest("subject", { visible: 1 }), { blobs: [], manifests: [] }, put);
    const attach = (text: string, by: string) =>
      records.addManifest(
        manifest(text, { artifactType: mediaTypes.bundle, subject: digest("subject") }),
        { blobs: [], manifests: [] },
        { at, by, attach: { audit: audit("bundle.attach"), mostOnSubject: 3, mostByActor: 2 } },
      );
    expect(await attach("a", "one")).toEqual({ added: true });
    expect(await attach("b", "one")).toEqual({ added: true });
    expect(await attach("c", "one")).toEqual({ added: false, full: "actor" });
    expect(await attach("c", "two")).toEqual({ added: true });
    expect(await attach("d", "two")).toEqual({ added: false, full: "subject" });
    expect(await attach("a", "two")).toEqual({ added: false });
    expect((await records.bundlesOn("acme/norm", digest("subject"), 2)).map((row) => row.visible)).toEqual([1, 1]);
  });

  test("a transaction that fails leaves nothing", async () => {
    const records = await withAcme();
    await pushed(records, "1.0.0");
    const broken: NewVersion = {
      ...version("1.0.0"),
      kernel: () => {
        throw new Error("no");
      },
    };
    await expect(records.commitVersion(broken, audit("version.publish"))).rejects.toThrow("no");
    expect(await records.version("acme/norm", "1.0.0")).toBeUndefined();
    expect(await records.commitVersion(version("1.0.0"), audit("version.publish"))).toBe("committed");
  });

  test("a quarantine withholds what nothing else reaches, and gives it back", async () => {
    const records = await withAcme();
    for (const text of ["1.0.0", "2.0.0"]) await commit(records, text);
    const visible = async (text: string) => (await records.blob("acme/norm", digest(text)))?.visible;
    const set = (text: string, state: "ok" | "quarantined" | "yanked") =>
      records.setVersionState(
        { repository: "acme/norm", version: text, state, reason: "why", by: "operator", at },
        (all) => all.toSorted().at(-1),
        audit(`version.${state}`),
      );
    expect(await set("2.0.0", "quarantined")).toBe(true);
    expect([await visible("own 2.0.0"), await visible("shared"), await visible("own 1.0.0")]).toEqual([-1, 1, 1]);
    expect((await records.kernel("acme/norm"))?.latest).toBe("1.0.0");
    expect(await records.versionTags("acme/norm", "", 10)).toEqual(["1.0.0"]);
    expect(await records.flaggedVersions("")).toMatchObject([{ version: "2.0.0", state: "quarantined" }]);
    await set("1.0.0", "quarantined");
    expect(await visible("shared")).toBe(-1);
    expect(await records.recent("", 10)).toEqual([]);
    await set("2.0.0", "ok");
    expect([await visible("own 2.0.0"), await visible("shared"), await visible("own 1.0.0")]).toEqual([1, 1, -1]);
    await set("1.0.0", "yanked");
    expect(await visible("own 1.0.0")).toBe(1);
    expect((await records.kernel("acme/norm"))?.latest).toBe("2.0.0");
    expect(await set("3.0.0", "yanked")).toBe(false);
  });

  test.each([
    [["norm"], 1],
    [["rmsn"], 1],
    [["cuda", "fast"], 1],
    [["sm90a"], 1],
    [["acme"], 1],
    [["cuda", "absent"], 0],
    [["orm"], 0],
  ])("a search for %j finds %i", async (words, count) => {
    const records = await withAcme();
    await commit(records, "1.0.0");
    expect(await records.search(words, "", 10)).toHaveLength(count);
  });

  test("private kernels are listed to their readers", async () => {
    const records = await open();
    await records.addNamespace(namespace("acme", { visibility: "private" }), audit("n"));
    await commit(records, "1.0.0");
    const listed = async (reader: string) => [
      (await records.recent(reader, 10)).length,
      (await records.search(["norm"], reader, 10)).length,
    ];
    expect(await listed("")).toEqual([0, 0]);
    expect(await listed(",other,")).toEqual([0, 0]);
    expect(await listed(",acme,")).toEqual([1, 1]);
    expect(await listed("*")).toEqual([1, 1]);
  });

  test("every change lengthens the audit chain, and the chain verifies", async () => {
    const records = await withAcme();
    await Promise.all(Array.from({ length: 20 }, (_, i) => records.appendAudit(audit(`a${i}`))));
    const rows = await records.auditAfter(0, 100);
    expect(rows.map((row) => row.seq)).toEqual(Array.from({ length: 21 }, (_, i) => i + 1));
    const { head, broken } = await records.verifyAudit();
    expect([broken, head]).toEqual([null, await records.auditHead()]);
    expect(head.hash).toBe(rows.at(-1)?.hash);
    expect(await records.auditAfter(19, 1)).toMatchObject([{ seq: 20, details: '{"n":1}' }]);
  });

  test("collection forgets what is old and unnamed, and an upload waits for bytes that are going", async () => {
    const records = await withAcme();
    for (const text of ["named", "loose", "fresh"]) await blob(records, text);
    await records.addManifest(manifest("m", { visible: 1 }), { blobs: [digest("named")], manifests: [] }, put);
    await records.addManifest(manifest("old"), { blobs: [], manifests: [] }, put);
    await records.touchBlob("acme/norm", digest("fresh"), later);
    const dry = await records.collect("2026-01-02T12:00:00.000Z", true, later);
    const real = await records.collect("2026-01-02T12:00:00.000Z", false, later);
    expect(dry).toEqual(real);
    expect(real).toEqual({ manifests: 1, links: 1, blobs: [{ digest: digest("loose"), size: 5 }] });
    expect(await records.announceBlob(digest("loose"), later)).toBe(false);
    await records.forgetBlob(digest("loose"));
    expect(await records.announceBlob(digest("loose"), later)).toBe(true);
    expect((await records.collect("2026-01-02T12:00:00.000Z", false, later)).blobs).toEqual([]);
    expect(await records.blob("acme/norm", digest("fresh"))).toBeDefined();
  });

  test("a lease has one holder until it passes or is dropped", async () => {
    const records = await open();
    const take = (who: string, now: string, until: string) => records.takeLease("gc", who, now, until);
    expect(await take("a", at, later)).toBe(true);
    expect(await take("b", at, later)).toBe(false);
    expect(await take("a", at, later)).toBe(true);
    expect(await take("b", "2026-01-04T00:00:00.000Z", "2026-01-05T00:00:00.000Z")).toBe(true);
    await records.dropLease("gc", "a");
    expect(await take("a", later, later)).toBe(false);
    await records.dropLease("gc", "b");
    expect(await take("a", later, later)).toBe(true);
  });

  test("a sound database contradicts itself nowhere, and counts", async () => {
    const records = await withAcme();
    await commit(records, "1.0.0");
    const rows = await records.contradictions();
    expect(Object.values(rows).flat()).toEqual([]);
    expect(await records.counts()).toEqual({
      namespaces: 1,
      kernels: 1,
      versions: 1,
      manifests: 1,
      blobs: 2,
      bytes: 15,
    });
    await records.pingWrite("2026-01-01T00:00:00.000Z");
    expect(await records.ping()).toBe(true);
  });
}
