import { closeSync, createReadStream, fsyncSync, mkdirSync, openSync } from "node:fs";
import { type FileHandle, open, opendir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import type { BlobStore, StoreLimits } from "./blobs.ts";
import { type Algorithm, algorithmOf, type ContentDigest, isContentDigest } from "./digests.ts";
import { openSpool } from "./spool.ts";

const algorithms: readonly Algorithm[] = ["sha256", "sha512"];

/**
 * Blobs in a folder: `blobs/<algorithm>/<hex>`. Written to `uploads/`, synced, renamed to the digest, and the folder is
 * synced. What is set aside lies in `damaged/`.
 */
export function folderStore(folder: string, limits: StoreLimits): BlobStore {
  const spool = openSpool(join(folder, "uploads"), limits);
  for (const algorithm of algorithms) makeFolder(join(folder, "blobs", algorithm));
  const pathOf = (digest: ContentDigest, root = "blobs") => {
    if (!isContentDigest(digest)) fail("KL_REGISTRY_DIGEST_INVALID", "A blob's name is not a digest.");
    return join(folder, root, ...digest.split(":"));
  };
  return {
    kind: "folder",
    begin: () =>
      spool.begin(async ({ path, file, digest }) => {
        await file.sync();
        await rename(path, pathOf(digest));
        await syncFolder(join(folder, "blobs", algorithmOf(digest)));
      }),
    async size(digest) {
      return (await stat(pathOf(digest)).catch(absent))?.size;
    },
    read: (digest, range) => createReadStream(pathOf(digest), { highWaterMark: 1 << 19, ...range }),
    readAll: (digest) => readFile(pathOf(digest)),
    open: (digest) => open(pathOf(digest), "r"),
    remove: (digest) => rm(pathOf(digest), { force: true }),
    async setAside(digest) {
      mkdirSync(join(folder, "damaged", algorithmOf(digest)), { recursive: true });
      await rename(pathOf(digest), pathOf(digest, "damaged"));
    },
    async *list() {
      for (const algorithm of algorithms) {
        for await (const entry of await opendir(join(folder, "blobs", algorithm))) {
          const digest = `${algorithm}:${entry.name}`;
          if (!isContentDigest(digest)) continue;
          const facts = await stat(join(folder, "blobs", algorithm, entry.name)).catch(absent);
          if (facts !== undefined) yield { digest, size: facts.size };
        }
      }
    },
    async room() {
      const { bavail, blocks, bsize } = await statfs(folder);
      return { free: bavail * bsize, total: blocks * bsize };
    },
    check: () => spool.check(),
  };
}

/** Also its name is durable: a synced blob would be lost with the folder that it lies in. */
function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true });
  for (const parent of [dirname(path), dirname(dirname(path))]) {
    const handle = openSync(parent, "r");
    fsyncSync(handle);
    closeSync(handle);
  }
}

export async function syncFolder(folder: string): Promise<void> {
  const handle: FileHandle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === "ENOENT") return undefined;
  throw error;
}
