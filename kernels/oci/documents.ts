import { z } from "zod";
import {
  canonicalJson,
  checkShape,
  type Digest,
  digestOf,
  fail,
  fields,
  annotations as keys,
  mediaTypes,
  parseStrictJson,
  parseVariant,
  shown,
  type Variant,
} from "../format/index.ts";

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

/** Largest manifest or index that is read; the OCI specification's own advice. */
export const maxManifestBytes = 4 << 20;

const emptyConfig = digestOf("{}");
const exactly = (mediaType: string) => z.literal(mediaType);
const strings = z.record(z.string(), z.string().max(4096));
const sized = { digest: fields.digest, size: fields.size };

const indexShape = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: exactly(mediaTypes.index),
  artifactType: exactly(mediaTypes.kernel),
  manifests: z
    .array(
      z.strictObject({
        mediaType: exactly(mediaTypes.manifest),
        ...sized,
        platform: z.strictObject({ os: z.literal("linux"), architecture: z.literal("amd64") }),
        annotations: z.strictObject({ [keys.variant]: fields.variantKey }),
      }),
    )
    .min(1)
    .max(64),
  annotations: z.strictObject({
    [keys.name]: fields.packageName,
    [keys.version]: fields.version,
    [keys.source]: fields.url,
    [keys.revision]: z.string().regex(/^(?:[0-9a-f]{40}(?:[0-9a-f]{24})?(?:-dirty)?|unversioned)$/, "is not a commit"),
    [keys.licenses]: fields.spdx,
    [keys.description]: fields.line,
  }),
});

/** The bytes of a version's OCI index. */
export function kernelIndex(index: KernelIndex): Uint8Array {
  const variants = index.variants.toSorted((a, b) => (a.variant < b.variant ? -1 : 1));
  const bytes = Buffer.from(
    canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      artifactType: mediaTypes.kernel,
      // No artifactType in these descriptors: skopeo would rewrite the index on copy.
      manifests: variants.map(({ variant, manifest }) => ({
        mediaType: mediaTypes.manifest,
        digest: manifest.digest,
        size: manifest.size,
        platform: { os: "linux", architecture: "amd64" },
        annotations: { [keys.variant]: variant },
      })),
      annotations: {
        [keys.name]: index.name,
        [keys.version]: index.version,
        [keys.source]: index.source,
        [keys.revision]: index.revision,
        [keys.licenses]: index.licenses,
        [keys.description]: index.description,
      },
    }),
  );
  parseKernelIndex(bytes);
  return bytes;
}

/** Throws `KL_JSON_*`, `KL_OCI_INDEX`, `KL_OCI_MEDIA_TYPE`. */
export function parseKernelIndex(bytes: Uint8Array): KernelIndex {
  const what = "The kernel's index";
  const json = parseDocument(bytes, what, { mediaType: mediaTypes.index, artifactType: mediaTypes.kernel });
  const value = checkShape(indexShape, json, "KL_OCI_INDEX", what);
  const about = value.annotations;
  const variants = value.manifests.map((m) => ({ variant: m.annotations[keys.variant]!, manifest: m }));
  checkSorted(variants, (v) => v.variant, "KL_OCI_INDEX", `${what} has variants`);
  return {
    name: about[keys.name]!,
    version: about[keys.version]!,
    source: about[keys.source]!,
    revision: about[keys.revision]!,
    licenses: about[keys.licenses]!,
    description: about[keys.description]!,
    variants,
  };
}

const manifestShape = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: exactly(mediaTypes.manifest),
  artifactType: exactly(mediaTypes.variant),
  config: z.strictObject({ mediaType: exactly(mediaTypes.variantConfig), ...sized }),
  layers: z
    .array(
      z.strictObject({
        mediaType: exactly(mediaTypes.file),
        ...sized,
        annotations: z.strictObject({ [keys.title]: fields.filePath }),
      }),
    )
    .min(1)
    .max(256),
});

/** The bytes of a variant's manifest; `config` is the bytes of its variant.json. */
export function variantManifest(config: Uint8Array): Uint8Array {
  const variant = parseVariant(config);
  const bytes = Buffer.from(
    canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: mediaTypes.variant,
      config: { mediaType: mediaTypes.variantConfig, digest: digestOf(config), size: config.byteLength },
      layers: variant.files.map(({ path, digest, size }) => ({
        mediaType: mediaTypes.file,
        digest,
        size,
        annotations: { [keys.title]: path },
      })),
    }),
  );
  parseVariantManifest(bytes);
  return bytes;
}

/** Throws `KL_JSON_*`, `KL_OCI_MANIFEST`, `KL_OCI_MEDIA_TYPE`. */
export function parseVariantManifest(bytes: Uint8Array): VariantManifest {
  const what = "The variant's manifest";
  const json = parseDocument(bytes, what, {
    mediaType: mediaTypes.manifest,
    artifactType: mediaTypes.variant,
    config: mediaTypes.variantConfig,
    layers: mediaTypes.file,
  });
  const value = checkShape(manifestShape, json, "KL_OCI_MANIFEST", what);
  const files = value.layers.map((l) => ({ path: l.annotations[keys.title]!, digest: l.digest, size: l.size }));
  checkSorted(files, (f) => f.path, "KL_OCI_MANIFEST", `${what} has files`);
  return { config: value.config, files };
}

/**
 * Manifest, variant.json and their place must tell the same: files, digests, sizes, package, version, variant key.
 * Throws `KL_OCI_FILE_UNLISTED` (in the manifest, not in variant.json), `KL_OCI_FILE_MISSING` (the other way),
 * `KL_OCI_FILE_DIFFERS` (digest or size), `KL_OCI_CONFIG_DIFFERS` (another package, version or variant than `expected`).
 */
export function checkVariantManifest(
  manifest: VariantManifest,
  variant: Variant,
  expected: { name: string; version: string; variant: string },
): void {
  const pairs = [
    ["package", variant.package, expected.name],
    ["version", variant.version, expected.version],
    ["variant", variant.variant, expected.variant],
  ] as const;
  for (const [field, is, wanted] of pairs) {
    if (is !== wanted) {
      fail("KL_OCI_CONFIG_DIFFERS", `variant.json names ${field} ${shown(is)} where ${shown(wanted)} stands.`);
    }
  }
  const declared = new Map(variant.files.map((f) => [f.path, f]));
  for (const file of manifest.files) {
    const of = declared.get(file.path);
    if (of === undefined) {
      fail("KL_OCI_FILE_UNLISTED", `The manifest holds ${shown(file.path)}, which variant.json does not name.`);
    }
    if (of.digest !== file.digest || of.size !== file.size) {
      fail(
        "KL_OCI_FILE_DIFFERS",
        `${shown(file.path)} has another digest or size in the manifest than in variant.json.`,
      );
    }
    declared.delete(file.path);
  }
  for (const path of declared.keys()) {
    fail("KL_OCI_FILE_MISSING", `variant.json names ${shown(path)}, which the manifest does not hold.`);
  }
}

// As cosign writes and reads it; config.artifactType is its oddity and is allowed.
const subjectShape = z.strictObject({
  mediaType: z.enum([mediaTypes.index, mediaTypes.manifest]),
  ...sized,
  artifactType: z.string().max(255).optional(),
  annotations: strings.optional(),
});
const bundleShape = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: exactly(mediaTypes.manifest),
  artifactType: exactly(mediaTypes.bundle),
  config: z.strictObject({
    mediaType: exactly(mediaTypes.empty),
    digest: z.literal(emptyConfig),
    size: z.literal(2),
    artifactType: z.string().max(255).optional(),
    data: z.literal("e30=").optional(),
    annotations: strings.optional(),
  }),
  layers: z
    .array(z.strictObject({ mediaType: exactly(mediaTypes.bundle), ...sized, annotations: strings.optional() }))
    .length(1),
  subject: subjectShape,
  annotations: strings.optional(),
});

/** The bytes of the referrer manifest that holds one Sigstore bundle. `created` is RFC 3339; left out unless given. */
export function bundleManifest(what: {
  bundle: Uint8Array;
  subject: Descriptor;
  predicateType: string;
  created?: string;
}): Uint8Array {
  const { mediaType, digest, size } = what.subject;
  const bytes = Buffer.from(
    canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: mediaTypes.bundle,
      config: { mediaType: mediaTypes.empty, digest: emptyConfig, size: 2 },
      layers: [{ mediaType: mediaTypes.bundle, digest: digestOf(what.bundle), size: what.bundle.byteLength }],
      subject: { mediaType, digest, size },
      annotations: {
        [keys.bundleContent]: "dsse-envelope",
        [keys.bundlePredicateType]: what.predicateType,
        [keys.created]: what.created,
      },
    }),
  );
  parseBundleManifest(bytes);
  return bytes;
}

/** Throws `KL_JSON_*`, `KL_OCI_BUNDLE`, `KL_OCI_BUNDLE_LAYERS`, `KL_OCI_MEDIA_TYPE`. */
export function parseBundleManifest(bytes: Uint8Array): BundleManifest {
  const what = "The bundle's manifest";
  const json = parseDocument(bytes, what, {
    mediaType: mediaTypes.manifest,
    artifactType: mediaTypes.bundle,
    config: mediaTypes.empty,
    layers: mediaTypes.bundle,
  });
  if (Array.isArray(json.layers) && json.layers.length !== 1) {
    fail("KL_OCI_BUNDLE_LAYERS", `${what} has ${json.layers.length} layers; one bundle is one layer.`);
  }
  const value = checkShape(bundleShape, json, "KL_OCI_BUNDLE", what);
  return {
    bundle: value.layers[0]!,
    subject: value.subject,
    predicateType: value.annotations?.[keys.bundlePredicateType] ?? null,
  };
}

/** The empty config that bundle manifests name; a registry wants it uploaded like any blob. */
export const emptyConfigBlob = { bytes: Buffer.from("{}") as Uint8Array, digest: emptyConfig } as const;

interface MediaTypesOf {
  readonly mediaType: string;
  readonly artifactType: string;
  readonly config?: string;
  readonly layers?: string;
}

/** Parses and looks at the media types first: "this is something else" is another error than "this is broken". */
function parseDocument(bytes: Uint8Array, what: string, types: MediaTypesOf): Record<string, unknown> {
  const json = parseStrictJson(bytes, { what, maxBytes: maxManifestBytes });
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    return fail("KL_OCI_MEDIA_TYPE", `${what} is not a JSON object.`);
  }
  const document = json as Record<string, unknown>;
  const layers = Array.isArray(document.layers) ? document.layers : [];
  const found: [string, unknown, string | undefined][] = [
    ["mediaType", document.mediaType, types.mediaType],
    ["artifactType", document.artifactType, types.artifactType],
    ["config.mediaType", mediaTypeOf(document.config), types.config],
    ...layers.map((l, i): [string, unknown, string | undefined] => [
      `layers[${i}].mediaType`,
      mediaTypeOf(l),
      types.layers,
    ]),
  ];
  for (const [field, is, wanted] of found) {
    if (wanted !== undefined && is !== wanted) {
      fail("KL_OCI_MEDIA_TYPE", `${what}: ${field} is ${shown(is)} instead of "${wanted}".`);
    }
  }
  return document;
}

function mediaTypeOf(value: unknown): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>).mediaType : undefined;
}

function checkSorted<T>(
  items: readonly T[],
  key: (item: T) => string,
  code: "KL_OCI_INDEX" | "KL_OCI_MANIFEST",
  what: string,
) {
  for (const [i, item] of items.entries()) {
    if (i > 0 && key(items[i - 1]!) >= key(item)) fail(code, `${what} that are named twice or out of order.`);
  }
}
