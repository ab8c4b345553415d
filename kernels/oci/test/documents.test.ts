import { describe, expect, test } from "vitest";
import { digestOf, mediaTypes, parseVariant } from "../../format/index.ts";
import {
  bundleManifest,
  checkVariantManifest,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
} from "../index.ts";
import { codeOf, digests, type Edit, edited, sampleVersion } from "./material.ts";

const sample = sampleVersion();
const place = { name: "kernlock/sample", version: "1.0.0", variant: "linux-x86_64-cpu-v3" };

describe("the index of a version", () => {
  test("has the exact shape that every client keeps", () => {
    expect(JSON.parse(Buffer.from(sample.index).toString())).toEqual({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      artifactType: "application/vnd.kernlock.kernel.v1",
      manifests: [
        {
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          digest: digestOf(sample.manifest),
          size: sample.manifest.byteLength,
          platform: { os: "linux", architecture: "amd64" },
          annotations: { "dev.kernlock.variant": "linux-x86_64-cpu-v3" },
        },
      ],
      annotations: {
        "dev.kernlock.name": "kernlock/sample",
        "org.opencontainers.image.version": "1.0.0",
        "org.opencontainers.image.source": "https://git.kernlock.example/kernels",
        "org.opencontainers.image.revision": "a".repeat(40),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.description": "A sample",
      },
    });
    expect(parseKernelIndex(sample.index)).toMatchObject({
      name: "kernlock/sample",
      version: "1.0.0",
      licenses: "Apache-2.0",
    });
  });

  test.each<[string, string, Edit]>([
    ["an image's index", "KL_OCI_MEDIA_TYPE", (i) => delete i.artifactType],
    ["a manifest", "KL_OCI_MEDIA_TYPE", (i) => (i.mediaType = mediaTypes.manifest)],
    [
      "a descriptor that clients would rewrite",
      "KL_OCI_INDEX",
      (i) => (i.manifests[0].artifactType = mediaTypes.variant),
    ],
    ["a name without namespace", "KL_OCI_INDEX", (i) => (i.annotations["dev.kernlock.name"] = "sample")],
    ["a missing licence", "KL_OCI_INDEX", (i) => delete i.annotations["org.opencontainers.image.licenses"]],
    ["an unknown annotation", "KL_OCI_INDEX", (i) => (i.annotations.extra = "x")],
    ["a variant twice", "KL_OCI_INDEX", (i) => i.manifests.push(i.manifests[0])],
    ["no variants", "KL_OCI_INDEX", (i) => (i.manifests = [])],
    ["a subject", "KL_OCI_INDEX", (i) => (i.subject = i.manifests[0])],
    ["a size that is no size", "KL_OCI_INDEX", (i) => (i.manifests[0].size = -5)],
    [
      "a script as source",
      "KL_OCI_INDEX",
      (i) => (i.annotations["org.opencontainers.image.source"] = "javascript:alert(1)"),
    ],
  ])("refuses %s", async (_, code, edit) => {
    expect(await codeOf(() => parseKernelIndex(edited(sample.index, edit)))).toBe(code);
  });
});

describe("the manifest of a variant", () => {
  test("has one layer a file", () => {
    const { config, files } = parseVariantManifest(sample.manifest);
    expect(config.digest).toBe(digestOf(sample.config));
    expect(files.map((f) => f.path)).toEqual(["README.md", "sample.so"]);
    checkVariantManifest(parseVariantManifest(sample.manifest), parseVariant(sample.config), place);
  });

  test.each<[string, string, Edit]>([
    ["another config", "KL_OCI_MEDIA_TYPE", (m) => (m.config.mediaType = "application/vnd.oci.image.config.v1+json")],
    [
      "an archive as layer",
      "KL_OCI_MEDIA_TYPE",
      (m) => (m.layers[0].mediaType = "application/vnd.oci.image.layer.v1.tar"),
    ],
    ["a layer without a path", "KL_OCI_MANIFEST", (m) => delete m.layers[0].annotations],
    [
      "a path that climbs",
      "KL_OCI_MANIFEST",
      (m) => (m.layers[0].annotations["org.opencontainers.image.title"] = "../x"),
    ],
    ["a path twice", "KL_OCI_MANIFEST", (m) => m.layers.push(m.layers[1])],
    ["an unknown field", "KL_OCI_MANIFEST", (m) => (m.urls = [])],
  ])("refuses %s", async (_, code, edit) => {
    expect(await codeOf(() => parseVariantManifest(edited(sample.manifest, edit)))).toBe(code);
  });

  const title = (path: string) => ({ "org.opencontainers.image.title": path });
  test.each<[string, string, Edit]>([
    [
      "a file that variant.json does not name",
      "KL_OCI_FILE_UNLISTED",
      (m) => m.layers.push({ ...m.layers[1], annotations: title("zzz.so") }),
    ],
    ["a file missing", "KL_OCI_FILE_MISSING", (m) => m.layers.shift()],
    ["a layer swapped for another", "KL_OCI_FILE_DIFFERS", (m) => (m.layers[1].digest = digests.other)],
    ["a size that lies", "KL_OCI_FILE_DIFFERS", (m) => (m.layers[1].size += 1)],
  ])("must say what variant.json says: %s", async (_, code, edit) => {
    const manifest = parseVariantManifest(edited(sample.manifest, edit));
    expect(await codeOf(() => checkVariantManifest(manifest, sample.variant, place))).toBe(code);
  });

  test.each(["name", "version", "variant"] as const)("variant.json must be about its place: %s", async (field) => {
    const manifest = parseVariantManifest(sample.manifest);
    const elsewhere = { ...place, [field]: "linux-x86_64-cpu-v4" };
    expect(await codeOf(() => checkVariantManifest(manifest, sample.variant, elsewhere))).toBe("KL_OCI_CONFIG_DIFFERS");
  });
});

describe("the manifest of a bundle", () => {
  const subject = { mediaType: mediaTypes.index, digest: digestOf(sample.index), size: sample.index.byteLength };
  const bytes = bundleManifest({
    bundle: Buffer.from("{}b"),
    subject,
    predicateType: "https://slsa.dev/provenance/v1",
  });

  test("is laid out as cosign writes it", () => {
    expect(JSON.parse(Buffer.from(bytes).toString())).toEqual({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json",
      config: {
        mediaType: "application/vnd.oci.empty.v1+json",
        size: 2,
        digest: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
      },
      layers: [{ mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", size: 3, digest: digestOf("{}b") }],
      subject,
      annotations: {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1",
      },
    });
    expect(parseBundleManifest(bytes)).toEqual({
      bundle: { mediaType: mediaTypes.bundle, size: 3, digest: digestOf("{}b") },
      subject,
      predicateType: "https://slsa.dev/provenance/v1",
    });
  });

  test.each<[string, Edit]>([
    ["cosign's own artifactType in the config", (m) => (m.config.artifactType = mediaTypes.bundle)],
    ["a date", (m) => (m.annotations["org.opencontainers.image.created"] = "2026-11-24T07:56:18Z")],
    ["no annotations", (m) => delete m.annotations],
  ])("may have %s", async (_, edit) => {
    expect(await codeOf(() => parseBundleManifest(edited(bytes, edit)))).toBe("accepted");
  });

  test.each<[string, string, Edit]>([
    ["two layers", "KL_OCI_BUNDLE_LAYERS", (m) => m.layers.push(m.layers[0])],
    ["no layer", "KL_OCI_BUNDLE_LAYERS", (m) => (m.layers = [])],
    ["a layer of another type", "KL_OCI_MEDIA_TYPE", (m) => (m.layers[0].mediaType = "application/json")],
    [
      "an old bundle version",
      "KL_OCI_MEDIA_TYPE",
      (m) => (m.artifactType = "application/vnd.dev.sigstore.bundle+json;version=0.2"),
    ],
    ["no subject", "KL_OCI_BUNDLE", (m) => delete m.subject],
    ["a config that is not empty", "KL_OCI_BUNDLE", (m) => (m.config.digest = digests.other)],
  ])("must not have %s", async (_, code, edit) => {
    expect(await codeOf(() => parseBundleManifest(edited(bytes, edit)))).toBe(code);
  });
});

test("documents that are no objects, or no JSON, are refused alike", async () => {
  for (const parse of [parseKernelIndex, parseVariantManifest, parseBundleManifest]) {
    for (const text of ["[]", "null", "3"])
      expect(await codeOf(() => parse(Buffer.from(text)))).toBe("KL_OCI_MEDIA_TYPE");
    expect(await codeOf(() => parse(Buffer.from("{")))).toBe("KL_JSON_SYNTAX");
  }
});
