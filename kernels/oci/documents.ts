import type { Digest, Variant } from "../format/index.ts";

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string | undefined;
  readonly platform?: { readonly os: string; readonly architecture: string } | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export interface KernelIndexFields {
  readonly name: string;
  readonly version: string;
  /** URL of the source repository */
  readonly source: string;
  /** Commit of the source, `<commit>-dirty`, or `unversioned` */
  readonly revision: string;
  /** SPDX expression */
  readonly licenses: string;
  readonly description: string;
}

export interface KernelIndex extends KernelIndexFields {
  /** By variant key, sorted. `manifest` has digest and size of the variant's manifest. */
  readonly variants: readonly { readonly variant: string; readonly manifest: Descriptor }[];
}

export interface VariantManifest {
  /** The bytes of variant.json. */
  readonly config: Descriptor;
  /** Sorted by path. */
  readonly files: readonly { readonly path: string; readonly digest: Digest; readonly size: number }[];
}

export interface BundleManifest {
  readonly bundle: Descriptor;
  readonly subject: Descriptor;
  readonly predicateType: string | null;
}

/** The bytes of a version's OCI index. */
export function kernelIndex(_index: KernelIndex): Uint8Array {
  throw new Error("to come");
}
/** Throws `KL_JSON_*`, `KL_OCI_INDEX`, `KL_OCI_MEDIA_TYPE`. */
export function parseKernelIndex(_bytes: Uint8Array): KernelIndex {
  throw new Error("to come");
}
/** The bytes of a variant's manifest; `config` is the bytes of its variant.json. */
export function variantManifest(_config: Uint8Array): Uint8Array {
  throw new Error("to come");
}
/** Throws `KL_JSON_*`, `KL_OCI_MANIFEST`, `KL_OCI_MEDIA_TYPE`. */
export function parseVariantManifest(_bytes: Uint8Array): VariantManifest {
  throw new Error("to come");
}
/**
 * Both must tell the same: files, digests, sizes, package, version, variant key.
 * Throws `KL_OCI_FILE_UNLISTED` (in the manifest, not in variant.json), `KL_OCI_FILE_MISSING` (the other way),
 * `KL_OCI_FILE_DIFFERS` (digest or size), `KL_OCI_CONFIG_DIFFERS` (another package, version or variant than `expected`).
 */
export function checkVariantManifest(
  _manifest: VariantManifest,
  _variant: Variant,
  _expected: { name: string; version: string; variant: string },
): void {
  throw new Error("to come");
}
/** The bytes of the referrer manifest that holds one Sigstore bundle. `created` is RFC 3339; left out unless given. */
export function bundleManifest(_fields: {
  bundle: Uint8Array;
  subject: Descriptor;
  predicateType: string;
  created?: string;
}): Uint8Array {
  throw new Error("to come");
}
/** Throws `KL_JSON_*`, `KL_OCI_BUNDLE`, `KL_OCI_BUNDLE_LAYERS`, `KL_OCI_MEDIA_TYPE`. */
export function parseBundleManifest(_bytes: Uint8Array): BundleManifest {
  throw new Error("to come");
}
