import type { RegistryClient } from "@kernlock/kernels/oci";
import { checkRequest } from "./border.ts";
import { type Cache, present } from "./cache.ts";
import { coverageProblems } from "./lock.ts";
import type { Lock, LockedKernel, Manifest, Pin, Progress } from "./types.ts";
import { selected } from "./verify.ts";

/** One thing to have in the cache. Registries serve documents and blobs at different addresses. */
interface Item {
  readonly repository: string;
  readonly what: string;
  readonly kind: "manifest" | "blob";
  readonly pin: Pin;
}

/**
 * Brings everything that the lock pins into the cache: what is there and holds stays, what is missing or damaged is
 * fetched again. A download that was cut off goes on where it stopped, also in a later call.
 * Throws KL_LOCK_STALE and KL_LOCK_EMPTY before anything is fetched; KL_FETCH_*, KL_CACHE_FILE, and what the client
 * throws (KL_OCI_*); what had arrived by then stays.
 */
export async function fetchLocked(request: {
  readonly lock: Lock;
  /** `kernels.json`, where there is one, which the lock has to answer. */
  readonly manifest?: Manifest | undefined;
  readonly cache: Cache;
  readonly registry: RegistryClient;
  readonly names?: readonly string[];
  /** Downloads at a time; default 8. */
  readonly concurrency?: number;
  readonly onProgress?: (progress: Progress) => void;
}): Promise<{ fetchedFiles: number; fetchedBytes: number; presentFiles: number }> {
  checkRequest("fetchLocked", request);
  const { lock, manifest, cache, registry, onProgress } = request;
  const [problem] = coverageProblems(manifest, lock);
  if (problem) throw problem;
  const items = itemsOf(selected(lock, request.names));
  const totalBytes = items.reduce((sum, { pin }) => sum + pin.size, 0);
  const result = { fetchedFiles: 0, fetchedBytes: 0, presentFiles: 0 };
  let doneBytes = 0;
  const report = (item: Item): void => {
    const doneFiles = result.fetchedFiles + result.presentFiles;
    onProgress?.({ what: item.what, doneBytes, totalBytes, doneFiles, totalFiles: items.length });
  };

  const bring = async (item: Item): Promise<void> => {
    const { pin, repository } = item;
    let counted = 0;
    const count = (size: number): void => {
      doneBytes += size - counted;
      counted = size;
      report(item);
    };
    if (await present(cache.check(pin))) result.presentFiles++;
    else {
      if (item.kind === "manifest") await cache.put(pin, (await registry.getManifest(repository, pin.digest)).bytes);
      else {
        const rest = (offset: number, hash: import("node:crypto").Hash) =>
          registry.blobStream(repository, pin.digest, { size: pin.size, offset, hash });
        await cache.receive(pin, rest, count);
      }
      result.fetchedFiles++;
      result.fetchedBytes += pin.size;
    }
    count(pin.size);
  };
  // Documents first: a registry that mirrors another one brings a version when somebody asks for its documents.
  for (const kind of ["manifest", "blob"] as const) {
    const some = items.filter((item) => item.kind === kind);
    await inParallel(some, request.concurrency ?? 8, bring);
  }
  return result;
}

/** Everything that a lock pins, each digest once. */
function itemsOf(kernels: readonly [string, LockedKernel][]): Item[] {
  const items = new Map<string, Item>();
  for (const [repository, kernel] of kernels) {
    const add = (kind: Item["kind"], what: string, { digest, size }: Pin): void => {
      items.set(digest, { repository, kind, what: `${repository} ${kernel.version} ${what}`, pin: { digest, size } });
    };
    add("manifest", "index", kernel.index);
    for (const { bundle, scope, variant } of kernel.statements) add("blob", `statement (${variant ?? scope})`, bundle);
    for (const { key, manifest, config, files } of kernel.variants) {
      add("manifest", key, manifest);
      add("blob", `${key}/variant.json`, config);
      for (const file of files) add("blob", `${key}/${file.path}`, file);
    }
  }
  return [...items.values()];
}

/** Runs at most `limit` at a time. The first failure stops new work, and is thrown once what runs has ended. */
export async function inParallel<T>(
  items: readonly T[],
  limit: number,
  body: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (failed) return;
      try {
        await body(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, worker));
  for (const outcome of results) if (outcome.status === "rejected") throw outcome.reason;
}
