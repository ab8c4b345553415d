/** What keeps a registry healthy while it runs: garbage collection, scrub, fsck. */
import { createHash, randomBytes } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { fail } from "@kernlock/kernels/format";
import type { BlobStore } from "../store/blobs.ts";
import { algorithmOf, type ContentDigest } from "../store/digests.ts";
import type { Records } from "../store/records.ts";

export interface Parts {
  readonly records: Records;
  readonly blobs: BlobStore;
  readonly now: () => Date;
}

export interface Collected {
  readonly dryRun: boolean;
  readonly manifests: number;
  /** Blobs that a repository forgot, though others may know the bytes. */
  readonly links: number;
  readonly blobs: readonly ContentDigest[];
  readonly bytes: number;
}

export const defaultGraceSeconds = 24 * 3600;

/**
 * Removes what nobody published or names, and nobody touched for `graceSeconds`. Rows go first, in one transaction that
 * also marks the bytes; then the bytes; then the mark. An upload of the same bytes waits while they are marked, so a
 * collection and uploads may run side by side, on any number of nodes.
 */
export async function collectGarbage(
  parts: Parts,
  options: { graceSeconds?: number; dryRun?: boolean } = {},
): Promise<Collected> {
  const { graceSeconds = defaultGraceSeconds, dryRun = false } = options;
  return alone(parts, "collection", async (stillAlone) => {
    const now = parts.now();
    const before = new Date(now.getTime() - graceSeconds * 1000).toISOString();
    const found = await parts.records.collect(before, dryRun, now.toISOString());
    for (const { digest } of dryRun ? [] : found.blobs) {
      // Another node, whose clock is ahead, may have gone on with these; then an upload may have brought them back.
      if (!(await stillAlone())) busy();
      await parts.blobs.remove(digest);
      await parts.records.forgetBlob(digest);
    }
    const bytes = found.blobs.reduce((sum, blob) => sum + (blob.size ?? 0), 0);
    const { manifests, links } = found;
    const outcome = { manifests, blobs: found.blobs.length, bytes };
    if (!dryRun) await parts.records.noteChore("gc", parts.now().toISOString(), outcome);
    return { dryRun, manifests, links, blobs: found.blobs.map((blob) => blob.digest), bytes };
  });
}

export interface Damage {
  readonly digest: ContentDigest;
  readonly what: "missing" | "size" | "bytes";
  /** `namespace/name` or `namespace/name@version` that need it. */
  readonly needed: readonly string[];
}

/** Reads every blob and compares it with its digest. Damaged bytes are set aside and never served again. */
export async function scrub(
  parts: Parts,
  options: { onBlob?: (checked: number) => void } = {},
): Promise<{ checked: number; bytes: number; damaged: Damage[] }> {
  const result = { checked: 0, bytes: 0, damaged: [] as Damage[] };
  for await (const blob of allBlobs(parts.records)) {
    if (blob.state !== "present") continue;
    const what = await examine(parts.blobs, blob);
    result.checked++;
    result.bytes += blob.size ?? 0;
    options.onBlob?.(result.checked);
    if (what === undefined) {
      if (blob.size === null) await parts.records.setBlobSize(blob.digest, (await parts.blobs.size(blob.digest)) ?? 0);
      continue;
    }
    // Announced and not stored yet, or collected meanwhile: nobody was promised it.
    if (what === "missing" && (await parts.records.usersOf(blob.digest)).length === 0) continue;
    if ((await parts.records.blobRow(blob.digest))?.state !== "present") continue;
    await parts.records.markDamaged(blob.digest);
    if (what !== "missing") await parts.blobs.setAside(blob.digest);
    result.damaged.push({ digest: blob.digest, what, needed: await needed(parts, blob.digest) });
  }
  if (result.damaged.length > 0) {
    await parts.records.appendAudit({
      at: parts.now().toISOString(),
      actor: "registry",
      action: "scrub",
      subject: "storage",
      details: { damaged: result.damaged.map((d) => d.digest) },
    });
  }
  const { checked, bytes, damaged } = result;
  await parts.records.noteChore("scrub", parts.now().toISOString(), { checked, bytes, damaged: damaged.length });
  return result;
}

export interface Checked {
  readonly sound: boolean;
  /** Blobs that rows name and the store lacks, has in another size, or had to set aside. */
  readonly blobs: readonly Damage[];
  /** Bytes that no row names: left by a crash, harmless; `repair` removes them. */
  readonly orphans: readonly ContentDigest[];
  readonly rows: Awaited<ReturnType<Records["contradictions"]>>;
  readonly audit: { readonly seq: number; readonly hash: string; readonly broken: number | null };
}

/** Compares rows with bytes, and rows with each other. Reads sizes only; `scrub` reads the bytes. */
export async function fsck(parts: Parts, options: { repair?: boolean } = {}): Promise<Checked> {
  return alone(parts, "collection", async () => {
    // First what is there, then who names it: what arrives in between is named and not an orphan.
    const stored = new Map<ContentDigest, number>();
    for await (const { digest, size } of parts.blobs.list()) stored.set(digest, size);
    const blobs: Damage[] = [];
    for await (const { digest, size, state } of allBlobs(parts.records)) {
      const found = stored.get(digest) ?? (await parts.blobs.size(digest));
      stored.delete(digest);
      const users = await parts.records.usersOf(digest);
      // Announced and not stored, or on its way out: nobody has been told of it.
      if (users.length === 0 && found === undefined) continue;
      const what = found === undefined ? "missing" : size !== null && size !== found ? "size" : undefined;
      if (what !== undefined || state === "damaged") {
        blobs.push({ digest, what: what ?? "bytes", needed: await needed(parts, digest) });
      }
    }
    const orphans = [...stored.keys()];
    if (options.repair === true) {
      for (const digest of orphans) {
        if ((await parts.records.blobRow(digest)) === undefined) await parts.blobs.remove(digest);
      }
    }
    const rows = await parts.records.contradictions();
    const { head, broken } = await parts.records.verifyAudit();
    const sound = blobs.length === 0 && broken === null && Object.values(rows).every((list) => list.length === 0);
    await parts.records.noteChore("fsck", parts.now().toISOString(), { sound, orphans: orphans.length });
    return { sound, blobs, orphans, rows, audit: { ...head, broken } };
  });
}

/** One of these at a time, on all nodes. KL_REGISTRY_BUSY. */
export async function alone<T>(
  { records, now }: Parts,
  name: string,
  work: (stillAlone: () => Promise<boolean>) => Promise<T>,
): Promise<T> {
  const holder = randomBytes(8).toString("hex");
  const hold = () => {
    const time = now();
    return records.takeLease(name, holder, time.toISOString(), new Date(time.getTime() + 60_000).toISOString());
  };
  if (!(await hold())) busy();
  const renew = setInterval(() => void hold().catch(() => {}), 20_000).unref();
  try {
    return await work(() => records.holdsLease(name, holder));
  } finally {
    clearInterval(renew);
    await records.dropLease(name, holder);
  }
}

function busy(): never {
  return fail("KL_REGISTRY_BUSY", "Another collection, check or backup is running.", { remedy: "Wait for its end." });
}

export async function* allBlobs(records: Records) {
  for (let after = ""; ; ) {
    const page = await records.blobsAfter(after, 500);
    yield* page;
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.digest;
  }
}

async function examine(
  blobs: BlobStore,
  { digest, size }: { digest: ContentDigest; size: number | null },
): Promise<Damage["what"] | undefined> {
  const found = await blobs.size(digest);
  if (found === undefined) return "missing";
  if (size !== null && found !== size) return "size";
  const algorithm = algorithmOf(digest);
  const hash = createHash(algorithm);
  await pipeline(blobs.read(digest), hash);
  return `${algorithm}:${hash.digest("hex")}` === digest ? undefined : "bytes";
}

async function needed({ records }: Parts, digest: string): Promise<string[]> {
  const users = await records.usersOf(digest);
  return users.map(({ repository, version }) => (version === null ? repository : `${repository}@${version}`));
}
