/**
 * Online backup of the embedded storage: a folder that is itself a data folder, and a manifest of it. The database is
 * copied first, as of one moment; then every blob it names. Blobs never change and collection waits meanwhile, so what
 * the copy names is what it gets. (With PostgreSQL and S3, use their own means: database first, then bucket.)
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, mkdirSync, readdirSync } from "node:fs";
import { open, readFile, rename, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fail, parseStrictJson, prettyJson } from "@kernlock/kernels/format";
import Database from "better-sqlite3";
import { z } from "zod";
import { algorithmOf, type ContentDigest, isContentDigest } from "../store/digests.ts";
import { folderStore, syncFolder } from "../store/folder-store.ts";
import type { SqliteSql } from "../store/sqlite.ts";
import { alone, type Parts } from "./maintenance.ts";

const manifestName = "backup.json";
const manifestShape = z.strictObject({
  schema: z.literal("kernlock.registry.backup/v1"),
  created_at: z.string(),
  audit_head: z.strictObject({ seq: z.number().int(), hash: z.string() }),
  database: z.strictObject({ sha256: z.string(), size: z.number().int() }),
  blobs: z.array(
    z.strictObject({ digest: z.custom<ContentDigest>(isContentDigest), size: z.number().int().nonnegative() }),
  ),
});
export type BackupManifest = z.infer<typeof manifestShape>;

/** `target` is a new folder, or an older backup, which is brought up to date. */
export async function backUp(parts: Parts, sql: SqliteSql, target: string): Promise<BackupManifest> {
  return alone(parts, "collection", async () => {
    mkdirSync(target, { recursive: true, mode: 0o700 });
    if (readdirSync(target).length > 0 && !existsSync(join(target, manifestName))) notEmpty(target);
    const store = folderStore(target, { maxBlobBytes: Number.MAX_SAFE_INTEGER });
    const database = join(target, "registry.sqlite");
    await sql.copyTo(`${database}.new`);
    const copy = readCopy(`${database}.new`);
    const blobs: { digest: ContentDigest; size: number }[] = [];
    for (const digest of copy.digests) {
      const size = await parts.blobs.size(digest);
      // Announced and never stored, or damaged and set aside: fsck speaks of those.
      if (size === undefined) continue;
      blobs.push({ digest, size });
      if ((await store.size(digest)) === size) continue;
      const incoming = await store.begin();
      await incoming.append(parts.blobs.read(digest));
      await incoming.commit(digest, async () => {});
    }
    await rename(`${database}.new`, database);
    const manifest: BackupManifest = {
      schema: "kernlock.registry.backup/v1",
      created_at: parts.now().toISOString(),
      audit_head: copy.head,
      database: await factsOf(database),
      blobs,
    };
    await writeDurably(target, manifestName, prettyJson(manifest));
    const bytes = blobs.reduce((sum, blob) => sum + blob.size, 0);
    await parts.records.noteChore("backup", manifest.created_at, { blobs: blobs.length, bytes });
    return manifest;
  });
}

/** Makes a data folder of a backup: every byte is compared with the manifest on its way. */
export async function restore(from: string, dataFolder: string): Promise<BackupManifest> {
  const manifest = await readManifest(from);
  const target = resolve(dataFolder);
  mkdirSync(target, { recursive: true, mode: 0o700 });
  if (readdirSync(target).length > 0) notEmpty(target);
  const facts = await factsOf(join(from, "registry.sqlite"));
  if (facts.sha256 !== manifest.database.sha256) damaged("registry.sqlite");
  const source = folderStoreOf(from);
  const store = folderStore(target, { maxBlobBytes: Number.MAX_SAFE_INTEGER });
  for (const { digest, size } of manifest.blobs) {
    const incoming = await store.begin();
    try {
      await incoming.append(createReadStream(source(digest), { highWaterMark: 1 << 20 }));
      if (incoming.size !== size) damaged(digest);
      await incoming.commit(digest, async () => {});
    } catch {
      await incoming.abort();
      damaged(digest);
    }
  }
  // Last of all: a folder without it is no registry's.
  await pipeline(
    createReadStream(join(from, "registry.sqlite")),
    createWriteStream(join(target, "registry.sqlite.new"), { mode: 0o600, flush: true }),
  );
  await rename(join(target, "registry.sqlite.new"), join(target, "registry.sqlite"));
  await syncFolder(target);
  return manifest;
}

function readCopy(path: string): { digests: ContentDigest[]; head: { seq: number; hash: string } } {
  const sql = new Database(path);
  try {
    // A backup is one file.
    sql.pragma("journal_mode = DELETE");
    if (sql.pragma("integrity_check", { simple: true }) !== "ok") damaged("registry.sqlite");
    // Whoever held something when the copy was taken does not hold it where the copy is restored.
    sql.exec("delete from lease");
    const rows = sql.prepare("select digest from blob where state = 'present' order by digest").all();
    const head = sql.prepare("select seq, hash from audit order by seq desc limit 1").get();
    return {
      digests: (rows as { digest: ContentDigest }[]).map((row) => row.digest),
      head: (head as { seq: number; hash: string } | undefined) ?? { seq: 0, hash: "0".repeat(64) },
    };
  } finally {
    sql.close();
  }
}

async function readManifest(folder: string): Promise<BackupManifest> {
  const bytes = await readFile(join(folder, manifestName)).catch(() => damaged(manifestName));
  const parsed = manifestShape.safeParse(parseStrictJson(bytes, { what: "The backup's manifest", maxBytes: 1 << 30 }));
  return parsed.success ? parsed.data : damaged(manifestName);
}

function folderStoreOf(folder: string): (digest: ContentDigest) => string {
  return (digest) => join(folder, "blobs", algorithmOf(digest), digest.split(":")[1]!);
}

async function factsOf(path: string): Promise<{ sha256: string; size: number }> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  const file = await open(path, "r");
  try {
    return { sha256: hash.digest("hex"), size: (await file.stat()).size };
  } finally {
    await file.close();
  }
}

async function writeDurably(folder: string, name: string, text: string): Promise<void> {
  await writeFile(join(folder, `${name}.new`), text, { flush: true });
  await rename(join(folder, `${name}.new`), join(folder, name));
  await syncFolder(folder);
}

function notEmpty(folder: string): never {
  return fail("KL_REGISTRY_FOLDER_IN_USE", `The folder ${folder} is not empty.`, { remedy: "Name a new folder." });
}

function damaged(what: string): never {
  return fail(
    "KL_REGISTRY_BACKUP_DAMAGED",
    `${what} of the backup is missing or has other bytes than its manifest says.`,
    {
      remedy: "Use another backup.",
      details: { what },
    },
  );
}
