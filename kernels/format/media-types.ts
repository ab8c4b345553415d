/** OCI media types and artifact types that Kernlock reads and writes. */
export const mediaTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  empty: "application/vnd.oci.empty.v1+json",
  /** artifactType of a version's index */
  kernel: "application/vnd.kernlock.kernel.v1",
  /** artifactType of a variant's manifest */
  variant: "application/vnd.kernlock.variant.v1",
  /** config blob of a variant: the bytes of variant.json */
  variantConfig: "application/vnd.kernlock.variant.config.v1+json",
  /** one file of a variant */
  file: "application/vnd.kernlock.file.v1",
  /** a Sigstore bundle: artifactType of its referrer and media type of its layer */
  bundle: "application/vnd.dev.sigstore.bundle.v0.3+json",
} as const;

export const annotations = {
  name: "dev.kernlock.name",
  variant: "dev.kernlock.variant",
  version: "org.opencontainers.image.version",
  source: "org.opencontainers.image.source",
  revision: "org.opencontainers.image.revision",
  licenses: "org.opencontainers.image.licenses",
  description: "org.opencontainers.image.description",
  created: "org.opencontainers.image.created",
  title: "org.opencontainers.image.title",
  refName: "org.opencontainers.image.ref.name",
  bundleContent: "dev.sigstore.bundle.content",
  bundlePredicateType: "dev.sigstore.bundle.predicateType",
} as const;
