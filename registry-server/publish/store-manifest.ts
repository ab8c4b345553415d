/**
 * Takes a manifest by digest, before anything is published. What is checked here is what makes it storable at all: it
 * is one strict JSON document of a known kind, and every blob it names is here with the size it says.
 */
import { type Digest, fail, isDigest, mediaTypes, parseStrictJson } from "@kernlock/kernels/format";
import { parseBundleManifest } from "@kernlock/kernels/oci";
import { z } from "zod";
import type { Context } from "../context.ts";
import type { ManifestRow } from "../store/catalog.ts";

const descriptor = z.object({
  mediaType: z.string().max(255),
  digest: z.custom<Digest>(isDigest, "is not a sha256 digest"),
  size: z.number().int().nonnegative(),
});
const annotations = z.record(z.string(), z.string()).optional();
const shape = z.discriminatedUnion("mediaType", [
  z.object({
    schemaVersion: z.literal(2),
    mediaType: z.literal(mediaTypes.index),
    artifactType: z.string().max(255).optional(),
    manifests: z.array(descriptor).max(1000),
    subject: descriptor.optional(),
    annotations,
  }),
  z.object({
    schemaVersion: z.literal(2),
    mediaType: z.literal(mediaTypes.manifest),
    artifactType: z.string().max(255).optional(),
    config: descriptor,
    layers: z.array(descriptor).max(1000),
    subject: descriptor.optional(),
    annotations,
  }),
]);
type Manifest = z.infer<typeof shape>;

export async function storeManifest(
  context: Context,
  put: { repository: string; digest: Digest; mediaType: string; bytes: Buffer },
): Promise<{ row: ManifestRow; added: boolean }> {
  const { catalog } = context;
  const manifest = parse(put.bytes, put.mediaType);
  const blobs = manifest.mediaType === mediaTypes.manifest ? [manifest.config, ...manifest.layers] : [];
  await requireBlobs(context, put.repository, blobs);

  // A bundle that speaks about something published is public with its arrival; everything else waits for a version.
  const subject = manifest.subject?.digest ?? null;
  const artifactType =
    manifest.artifactType ?? (manifest.mediaType === mediaTypes.manifest ? manifest.config.mediaType : null);
  if (artifactType === mediaTypes.bundle) parseBundleManifest(put.bytes);
  const published = subject !== null && catalog.manifest(put.repository, subject)?.visible === 1;
  const added = catalog.addManifest(
    {
      repository: put.repository,
      digest: put.digest,
      mediaType: manifest.mediaType,
      artifactType,
      subject,
      annotations: manifest.annotations === undefined ? null : JSON.stringify(manifest.annotations),
      bytes: put.bytes,
      visible: published && artifactType === mediaTypes.bundle ? 1 : 0,
    },
    context.now().toISOString(),
    blobs.map((blob) => blob.digest),
  );
  return { row: catalog.manifest(put.repository, put.digest)!, added };
}

/** Every blob must be in this repository, with the size its descriptor says. KL_REGISTRY_MANIFEST_INCOMPLETE. */
export async function requireBlobs(
  context: Context,
  repository: string,
  blobs: readonly { digest: Digest; size: number }[],
): Promise<void> {
  for (const blob of blobs) {
    const size = context.catalog.hasBlob(repository, blob.digest, false)
      ? await context.blobs.size(blob.digest)
      : undefined;
    if (size !== blob.size) {
      fail(
        "KL_REGISTRY_MANIFEST_INCOMPLETE",
        size === undefined
          ? `The manifest names ${blob.digest}, which this repository does not have.`
          : `The manifest gives ${blob.digest} ${blob.size} bytes; it has ${size}.`,
        { remedy: "Upload the manifest's blobs first.", details: { digest: blob.digest } },
      );
    }
  }
}

function parse(bytes: Buffer, mediaType: string): Manifest {
  const result = shape.safeParse(parseStrictJson(bytes, { what: "The manifest" }));
  if (!result.success) {
    const issue = result.error.issues[0]!;
    return fail(
      "KL_REGISTRY_MANIFEST_INVALID",
      `The manifest's ${issue.path.join(".") || "document"}: ${issue.message}.`,
      {
        remedy: "Send an OCI image manifest or image index, version 2.",
      },
    );
  }
  if (result.data.mediaType !== mediaType) {
    fail("KL_REGISTRY_MANIFEST_INVALID", "The manifest's mediaType and the request's Content-Type differ.", {
      remedy: "Send the manifest under its own media type.",
    });
  }
  return result.data;
}
