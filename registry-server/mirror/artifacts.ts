/**
 * Plain OCI: manifests and blobs come one by one, when somebody asks for them. A blob comes only if a manifest names
 * it that is here, and is handed out when it is whole.
 */
import { type Digest, isDigest, parseStrictJson } from "@kernlock/kernels/format";
import type { FetchedManifest } from "@kernlock/kernels/oci";
import type { ContentDigest } from "../store/digests.ts";
import { isAbsent, type Subject, store } from "./fetched.ts";
import { keepBlob } from "./keep.ts";
import type { Kit } from "./kit.ts";
import { actorOf } from "./mirrors.ts";

const maxTags = 10_000;
const maxReferrers = 100;

/** Asks what the tag names now; fetches the manifest only if it is another one than before. */
export async function bringTag(kit: Kit, subject: Subject, tag: string): Promise<void> {
  const { records, now } = kit.context;
  const { repository, mirror } = subject;
  const { registry } = kit.upstream(mirror);
  const held = await records.tag(repository, tag);
  const change = { at: now().toISOString(), actor: actorOf(mirror), subject: `${repository}:${tag}` };
  let fetched: FetchedManifest | undefined;
  try {
    fetched = await (held === undefined
      ? registry.getManifest(repository, tag)
      : registry.newerManifest(repository, tag, held));
  } catch (error) {
    // A tag that is gone there names nothing here; what it named stays, by digest.
    if (isAbsent(error) && held !== undefined) {
      await records.removeTag(repository, tag, { ...change, action: "tag.delete", details: { from: mirror.origin } });
    }
    throw error;
  }
  if (fetched === undefined) return;
  await store(kit, subject, fetched);
  const details = { digest: fetched.digest, from: mirror.origin };
  await records.putTag(repository, tag, fetched.digest, change.at, { ...change, action: "tag.put", details });
}

export async function bringManifest(kit: Kit, subject: Subject, digest: Digest): Promise<void> {
  await store(kit, subject, await kit.upstream(subject.mirror).registry.getManifest(subject.repository, digest));
}

/** False when no manifest that is here names it. */
export async function bringBlob(kit: Kit, { repository, mirror }: Subject, digest: ContentDigest): Promise<boolean> {
  const { records } = kit.context;
  const size = isDigest(digest) ? sizeIn(await records.naming(repository, digest), digest) : undefined;
  if (size === undefined || !isDigest(digest)) return false;
  await keepBlob(kit, mirror, repository, { digest, size });
  await records.showNamedBlob(repository, digest);
  return true;
}

export function listTags(kit: Kit, { repository, mirror }: Subject): Promise<string[]> {
  return kit.upstream(mirror).registry.tags(repository, maxTags);
}

export async function bringReferrers(kit: Kit, subject: Subject, about: Digest): Promise<number> {
  const { repository, mirror } = subject;
  const { registry } = kit.upstream(mirror);
  const here = new Set<string>((await kit.context.records.referrers(repository, about)).map((row) => row.digest));
  let count = 0;
  for (const { digest } of await registry.referrers(repository, about, undefined, maxReferrers)) {
    if (here.has(digest)) continue;
    const fetched = await registry.getManifest(repository, digest);
    const { subject: said } = parseStrictJson(fetched.bytes, { what: "A referrer" }) as {
      subject?: { digest?: unknown };
    };
    if (said?.digest !== about) continue;
    await store(kit, subject, fetched);
    count++;
  }
  return count;
}

/** The size that some manifest gives a blob. */
function sizeIn(manifests: readonly Buffer[], digest: Digest): number | undefined {
  for (const bytes of manifests) {
    const { config, layers, blobs } = parseStrictJson(bytes, { what: "The manifest" }) as Record<string, unknown>;
    for (const entry of [config, layers, blobs].flat()) {
      const { digest: named, size } = (entry ?? {}) as { digest?: unknown; size?: unknown };
      if (named === digest && typeof size === "number") return size;
    }
  }
  return undefined;
}
