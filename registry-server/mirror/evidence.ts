/** Signed statements of the upstream about what is mirrored: they become referrers here, by the code of any attaching. */
import { type Digest, fail, isDigest, KernlockError, mediaTypes, parseStrictJson } from "@kernlock/kernels/format";
import { type Descriptor, emptyConfigBlob, type FetchedManifest, parseBundleManifest } from "@kernlock/kernels/oci";
import { describeBundle } from "@kernlock/policies/trust";
import { z } from "zod";
import { isAbsent, named, once, type Subject, store } from "./fetched.ts";
import { keepBytes } from "./keep.ts";
import type { Kit } from "./kit.ts";
import type { Mirror } from "./mirrors.ts";

/** Bundles on one manifest; an upstream that lists more is not followed. */
const maxBundles = 64;
const maxBundleBytes = 4 << 20;
const fallbackShape = z.looseObject({
  manifests: z.array(
    z.looseObject({
      mediaType: z.string().max(255),
      digest: z.custom<Digest>(isDigest),
      size: z.number().int().nonnegative(),
      artifactType: z.string().max(255).optional(),
    }),
  ),
});
/** No evidence, and no reason to leave a version out. */
const noBundle = /^KL_(?:OCI_BUNDLE(?:_LAYERS)?|OCI_MEDIA_TYPE|REGISTRY_BUNDLE_SUBJECT|JSON_\w+)$/;

export interface Statement {
  readonly subject: Digest;
  readonly manifest: FetchedManifest;
  readonly bundle: Uint8Array;
  readonly descriptor: Descriptor;
}

/** The bundles that the upstream has about a manifest and this registry has not. */
export async function fetchEvidence(kit: Kit, { repository, mirror }: Subject, about: Digest): Promise<Statement[]> {
  const { registry } = kit.upstream(mirror);
  const here = new Set<string>((await kit.context.records.referrers(repository, about)).map((row) => row.digest));
  const listed = (await referrersOf(kit, repository, mirror, about)).filter(({ digest }) => !here.has(digest));
  const found: Statement[] = [];
  for (const { digest } of listed) {
    const manifest = await named(registry.getManifest(repository, digest));
    const parsed = ifBundle(() => parseBundleManifest(manifest.bytes));
    // The list is the upstream's word; the manifest says itself what it is about.
    if (parsed === undefined || parsed.subject.digest !== about || parsed.bundle.size > maxBundleBytes) continue;
    const { digest: blob, size } = parsed.bundle;
    const bundle = await named(registry.getBlob(repository, blob, { size, maxBytes: maxBundleBytes }));
    // As of anybody who attaches something here: a statement, and about this.
    if (describeBundle(bundle)?.subjects.includes(about) !== true) continue;
    found.push({ subject: about, manifest, bundle, descriptor: parsed.bundle });
  }
  return found;
}

/** By the referrers route, or by the tag that stands in for it where the registry has none. */
async function referrersOf(
  kit: Kit,
  repository: string,
  mirror: Mirror,
  about: Digest,
): Promise<Pick<Descriptor, "digest">[]> {
  const { registry } = kit.upstream(mirror);
  try {
    return await registry.referrers(repository, about, mediaTypes.bundle, maxBundles);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  try {
    const { bytes } = await registry.getManifest(repository, about.replace(":", "-"));
    const listed = fallbackShape.safeParse(parseStrictJson(bytes, { what: "The list of referrers" }));
    if (!listed.success) return fail("KL_OCI_PROTOCOL", "The upstream's list of referrers is malformed.");
    const bundles = listed.data.manifests.filter(({ artifactType }) => artifactType === mediaTypes.bundle);
    if (bundles.length > maxBundles) fail("KL_OCI_TOO_LARGE", `More than ${maxBundles} bundles are about ${about}.`);
    return bundles;
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

/** Statements that came to the upstream since: audits, and violations. Returns how many are new. */
export async function refreshEvidence(kit: Kit, subject: Subject, about: Digest): Promise<number> {
  const found = await fetchEvidence(kit, subject, about);
  for (const item of found) await attach(kit, subject, item);
  return found.length;
}

export async function attach(kit: Kit, subject: Subject, { manifest, bundle, descriptor }: Statement): Promise<void> {
  const { repository } = subject;
  await keepBytes(kit, repository, descriptor, once(bundle));
  const { digest, bytes } = emptyConfigBlob;
  if ((await kit.context.records.blob(repository, digest))?.state !== "present") {
    await keepBytes(kit, repository, { digest, size: bytes.byteLength }, once(bytes));
  }
  try {
    await store(kit, subject, manifest);
  } catch (error) {
    if (!(error instanceof KernlockError && noBundle.test(error.code))) throw error;
    kit.log.info({ mirror: subject.mirror.id, repository, digest: manifest.digest, code: error.code }, "no bundle");
  }
}

function ifBundle<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof KernlockError && noBundle.test(error.code)) return undefined;
    throw error;
  }
}
