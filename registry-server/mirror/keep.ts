/** Bytes of the upstream become blobs of a repository: whole, of the size and digest that was promised, or not at all. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Digest, fail } from "@kernlock/kernels/format";
import type { Kit } from "./kit.ts";
import type { Mirror } from "./mirrors.ts";

const deletingWaitMs = 10_000;
const slowestBytesPerSecond = 1024;

export interface WantedBlob {
  readonly digest: Digest;
  readonly size: number;
}

/** Nothing is asked for that the repository has in this size. Returns the bytes that came. */
export async function keepBlob(kit: Kit, mirror: Mirror, repository: string, blob: WantedBlob): Promise<number> {
  const { records } = kit.context;
  const { digest, size } = blob;
  const at = () => kit.context.now().toISOString();
  const known = await records.blob(repository, digest);
  if (known?.state === "present" && known.size === size) {
    await records.touchBlob(repository, digest, at());
    return 0;
  }
  return kit.slot(async () => {
    const controller = new AbortController();
    const stream = kit.upstream(mirror).registry.blobStream(repository, digest, { size, signal: controller.signal });
    await keepBytes(kit, repository, blob, steady(stream, controller, kit.options.windowMs));
    kit.context.metrics.count("kernlock_mirror_bytes_total", {}, size);
    return size;
  });
}

/** Bytes that are at hand. */
export async function keepBytes(
  { context }: Pick<Kit, "context">,
  repository: string,
  { digest, size }: WantedBlob,
  source: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { records, blobs, now } = context;
  const incoming = await blobs.begin();
  try {
    await incoming.append(source, size);
    await incoming.commit(digest, async () => {
      for (let waited = 0; waited < deletingWaitMs; waited += 50) {
        if (await records.announceBlob(digest, now().toISOString())) return;
        await sleep(50);
      }
      fail("KL_REGISTRY_NOT_READY", "The same bytes are being deleted right now.", { remedy: "Try again." });
    });
  } finally {
    await incoming.abort();
  }
  await records.addBlob({ repository, digest, size, now: now().toISOString() });
}

/** Ends what only drips. */
async function* steady(
  source: AsyncIterable<Uint8Array>,
  controller: AbortController,
  windowMs: number,
): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  let before = 0;
  const watch = setInterval(() => {
    if (bytes - before < (slowestBytesPerSecond * windowMs) / 1000) {
      controller.abort(new DOMException("too slow", "TimeoutError"));
    }
    before = bytes;
  }, windowMs).unref();
  try {
    for await (const chunk of source) {
      bytes += chunk.byteLength;
      yield chunk;
    }
  } finally {
    clearInterval(watch);
  }
}
