/**
 * Takes a manifest, before anything is published. What is checked here is what makes it storable at all: it is one
 * strict JSON document, of a known kind where kernels lie, and every blob it names is here with the size it says.
 */
import { fail, mediaTypes, parseStrictJson } from "@kernlock/kernels/format";
import { parseBundleManifest } from "@kernlock/kernels/oci";
import { describeBundle } from "@kernlock/policies/trust";
import { z } from "zod";
import type { Namespace } from "../admin.ts";
import type { Context } from "../context.ts";
import { type ContentDigest, isContentDigest } from "../store/digests.ts";
import type { ManifestRow } from "../store/records.ts";

const descriptor = z.object({
  mediaType: z.string().max(255),
  digest: z.custom<ContentDigest>(isContentDigest, "is not a sha256 or sha512 digest"),
  size: z.number().int().nonnegative(),
});
const annotations = z.record(z.string(), z.string()).optional();
const maxEntries = 1000;
/** Bundles on one manifest: no more than a client that locks is ready to read. */
export const maxBundles = 64;
export const maxBundleBytes = 4 << 20;
/** Of those, by one token once the manifest is published: nobody alone can leave no room for the others. */
const maxBundlesOfOne = 32;
const kernelShape = z.discriminatedUnion("mediaType", [
  z.object({
    schemaVersion: z.literal(2),
    mediaType: z.literal(mediaTypes.index),
    artifactType: z.string().max(255).optional(),
    manifests: z.array(descriptor).max(maxEntries),
    subject: descriptor.optional(),
    annotations,
  }),
  z.object({
    schemaVersion: z.literal(2),
    mediaType: z.literal(mediaTypes.manifest),
    artifactType: z.string().max(255).optional(),
    config: descriptor,
    layers: z.array(descriptor).max(maxEntries),
    subject: descriptor.optional(),
    annotations,
  }),
]);
/** Plain OCI: any of its kinds, those of Docker, and what they will add. */
const artifactShape = z.object({
  schemaVersion: z.literal(2).optional(),
  mediaType: z.string().max(255).optional(),
  artifactType: z.string().max(255).optional(),
  config: descriptor.optional(),
  layers: z.array(descriptor).max(maxEntries).optional(),
  blobs: z.array(descriptor).max(maxEntries).optional(),
  manifests: z.array(descriptor).max(maxEntries).optional(),
  subject: descriptor.optional(),
  annotations: annotations.nullable(),
});
type Manifest = z.infer<typeof artifactShape>;

export interface ManifestPut {
  readonly repository: string;
  readonly owner: Namespace;
  readonly digest: ContentDigest;
  readonly mediaType: string;
  readonly bytes: Buffer;
  /** Whether the one who puts may publish; who may not can only attach bundles to what is published. */
  readonly publishes: boolean;
  readonly administers: boolean;
  readonly actor: string;
  /** Plain OCI from a mirror's upstream, whose blobs come when somebody asks for them. */
  readonly blobsFollow?: true;
}

export async function storeManifest(context: Context, put: ManifestPut): Promise<{ row: ManifestRow; added: boolean }> {
  const { records } = context;
  const { repository, digest } = put;
  const { mediaType, manifest } = parseManifestPut(put);
  const blobs = [manifest.config ?? [], manifest.layers ?? [], manifest.blobs ?? []]
    .flat()
    // Layers that must not be distributed lie elsewhere.
    .filter((blob) => !/nondistributable|foreign/.test(blob.mediaType));
  if (put.blobsFollow !== true) await requireBlobs(context, repository, blobs);

  const subject = manifest.subject?.digest ?? null;
  const artifactType = manifest.artifactType ?? manifest.config?.mediaType ?? null;
  const isBundle = artifactType === mediaTypes.bundle;
  const isStatement = isBundle && put.owner.kind === "kernels";
  if (isStatement) parseBundleManifest(put.bytes);
  // A bundle that speaks about something published is public with its arrival; everything else waits for a version.
  const about = subject === null ? undefined : await records.manifest(repository, subject);
  const aboutPublished = about?.visible === 1;
  // An audit of what waits for its review is there in time to be judged with it.
  const aboutStaged = isBundle && subject !== null && (await records.isStaged(repository, subject));
  const attests = isBundle && (aboutPublished || aboutStaged);
  if (isStatement && about?.artifactType === mediaTypes.bundle) notAbout("A bundle cannot be about another bundle.");
  if (isStatement && attests) await requireStatement(context, put.bytes, subject);
  if (!put.publishes && !attests) {
    fail("KL_REGISTRY_TOKEN_SCOPE", "The token may only attach signed bundles to what is published or staged.", {
      remedy: "Put a manifest of the bundle's type whose subject is a published or staged version or variant.",
      details: { needed: "publish" },
    });
  }
  const row: ManifestRow = {
    repository,
    digest,
    mediaType,
    artifactType,
    subject,
    annotations: manifest.annotations == null ? null : JSON.stringify(manifest.annotations),
    bytes: put.bytes,
    visible: put.owner.kind === "artifacts" || (attests && aboutPublished) ? 1 : 0,
  };
  if (row.visible === 0 && subject === null && blobs.length === 0) {
    // Whoever tags an index has put it before, and nothing of it would change.
    const here = await records.manifest(repository, digest);
    if (here !== undefined) return { row: here, added: false };
  }
  const at = context.now().toISOString();
  const { actor } = put;
  const entry = { at, actor, action: "bundle.attach", subject: `${repository}@${subject}`, details: { digest } };
  const { added, missing, full } = await records.addManifest(
    row,
    {
      blobs: put.blobsFollow === true ? [] : blobs.map((blob) => blob.digest),
      manifests: [...(manifest.manifests ?? []), ...(put.blobsFollow === true ? blobs : [])].map(
        (child) => child.digest,
      ),
    },
    {
      ...{ at, by: actor },
      ...(!isStatement || subject === null
        ? {}
        : {
            attach: {
              audit: entry,
              mostOnSubject: maxBundles,
              mostByActor: put.administers ? maxBundles : maxBundlesOfOne,
            },
          }),
    },
  );
  if (full !== undefined) {
    const whose = full === "actor" ? "with this token " : "";
    fail("KL_REGISTRY_BUNDLES_FULL", `No further bundle is taken ${whose}for this manifest.`, {
      remedy: "Attach every statement once; if those that are there are of no use, ask the registry's operator.",
      details: { subject, limit: full === "actor" ? maxBundlesOfOne : maxBundles },
    });
  }
  if (missing !== undefined) incomplete(`The manifest names ${missing}, which this repository does not have.`, missing);
  return { row: (await records.manifest(repository, digest)) ?? row, added };
}

/**
 * What is public with its arrival is a statement about what it is attached to; or anybody who may attach could make any
 * blob of the repository public, or fill the place of statements. What comes before its version is judged with that.
 */
async function requireStatement({ blobs }: Context, manifest: Buffer, subject: string | null): Promise<void> {
  const { bundle } = parseBundleManifest(manifest);
  if (bundle.size > maxBundleBytes) {
    fail("KL_REGISTRY_BLOB_TOO_LARGE", `A bundle may have ${maxBundleBytes} bytes at most.`, {
      remedy: "Attach one statement a bundle.",
    });
  }
  const said = describeBundle(await blobs.readAll(bundle.digest));
  if (said === null) notAbout("What is to be attached is no Sigstore bundle with a statement in it.");
  else if (subject === null || !said.subjects.includes(subject)) {
    notAbout("The bundle is no statement about the manifest that it is attached to.");
  }
}

function notAbout(message: string): never {
  return fail("KL_REGISTRY_BUNDLE_SUBJECT", message, {
    remedy:
      "Attach bundles as `kernlock attest` and `cosign attest` make them, to the version or variant they are about.",
  });
}

/** Every blob must be in this repository, with the size its descriptor says. KL_REGISTRY_MANIFEST_INCOMPLETE. */
export async function requireBlobs(
  context: Context,
  repository: string,
  blobs: readonly { digest: ContentDigest; size: number }[],
): Promise<void> {
  for (const { digest, size: wanted } of blobs) {
    const row = await context.records.blob(repository, digest);
    const size = row?.state === "present" ? (row.size ?? (await context.blobs.size(digest))) : undefined;
    if (size === undefined) incomplete(`The manifest names ${digest}, which this repository does not have.`, digest);
    if (size !== wanted) incomplete(`The manifest gives ${digest} ${wanted} bytes; it has ${size}.`, digest);
  }
}

function incomplete(message: string, digest: ContentDigest): never {
  return fail("KL_REGISTRY_MANIFEST_INCOMPLETE", message, {
    remedy: "Upload the manifest's blobs first.",
    details: { digest },
  });
}

/** KL_REGISTRY_MANIFEST_INVALID. */
export function parseManifestPut(put: Pick<ManifestPut, "bytes" | "mediaType"> & { owner: Pick<Namespace, "kind"> }): {
  mediaType: string;
  manifest: Manifest;
} {
  const shape = put.owner.kind === "kernels" ? kernelShape : artifactShape;
  const result = shape.safeParse(parseStrictJson(put.bytes, { what: "The manifest" }));
  if (!result.success) {
    const issue = result.error.issues[0]!;
    return fail(
      "KL_REGISTRY_MANIFEST_INVALID",
      `The manifest's ${issue.path.join(".") || "document"}: ${issue.message}.`,
      { remedy: "Send an OCI image manifest or image index, version 2." },
    );
  }
  const manifest: Manifest = result.data;
  const mediaType = manifest.mediaType ?? put.mediaType;
  if (mediaType !== put.mediaType || !/^[\w.+-]+\/[\w.+-]+$/.test(mediaType)) {
    fail("KL_REGISTRY_MANIFEST_INVALID", "The manifest's mediaType and the request's Content-Type differ.", {
      remedy: "Send the manifest under its own media type.",
    });
  }
  return { mediaType, manifest };
}
