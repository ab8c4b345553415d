import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { digestOf, mediaTypes } from "../../format/index.ts";
import { bundleManifest, OciLayout } from "../index.ts";
import { codeOf, sampleVersion } from "./material.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kernlock-layout-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("holds several versions and their referrers, and is read back", async () => {
  const { index, manifest, config } = sampleVersion();
  const layout = await OciLayout.create(folder);
  for (const blob of [manifest, config]) await layout.putBlob(blob);
  const descriptor = await layout.putManifest(index, { mediaType: mediaTypes.index, tag: "1.0.0" });
  await layout.putManifest(index, { mediaType: mediaTypes.index, tag: "1.0.1" });
  const bundle = Buffer.from("{}");
  await layout.putBlob(bundle);
  const subject = { mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.size };
  const referrer = bundleManifest({ bundle, subject, predicateType: "https://slsa.dev/provenance/v1" });
  await layout.putManifest(referrer, { mediaType: mediaTypes.manifest });
  await layout.putManifest(referrer, { mediaType: mediaTypes.manifest });

  const again = await OciLayout.open(folder);
  expect(await again.tags()).toEqual(["1.0.0", "1.0.1"]);
  expect((await again.resolve("1.0.1")).digest).toBe(digestOf(index));
  expect(Buffer.from(await again.getBlob(digestOf(index))).equals(Buffer.from(index))).toBe(true);
  expect(await again.referrers(digestOf(index), mediaTypes.bundle)).toMatchObject([
    { digest: digestOf(referrer), artifactType: mediaTypes.bundle, size: referrer.byteLength },
  ]);
  expect(await again.referrers(digestOf(index), "application/other")).toEqual([]);
  expect(await again.referrers(digestOf(manifest))).toEqual([]);
  expect(readFileSync(join(folder, "oci-layout"), "utf8")).toBe('{"imageLayoutVersion":"1.0.0"}');
  expect(readdirSync(join(folder, "blobs", "sha256")).filter((name) => name.startsWith("."))).toEqual([]);
});

test("a tag moves to its newest owner", async () => {
  const layout = await OciLayout.create(folder);
  await layout.putManifest(Buffer.from('{"a":1}'), { mediaType: mediaTypes.index, tag: "1.0.0" });
  await layout.putManifest(Buffer.from('{"a":2}'), { mediaType: mediaTypes.index, tag: "1.0.0" });
  expect(await layout.tags()).toEqual(["1.0.0"]);
  expect((await layout.resolve("1.0.0")).digest).toBe(digestOf('{"a":2}'));
});

test("refuses what is missing, damaged, linked or too large", async () => {
  const layout = await OciLayout.create(folder);
  const digest = await layout.putBlob(Buffer.from("bytes"));
  expect(await layout.hasBlob(digest)).toBe(true);
  expect(await codeOf(() => layout.getBlob(digest, { maxBytes: 2 }))).toBe("KL_OCI_TOO_LARGE");
  expect(await codeOf(() => layout.getBlob(digestOf("other")))).toBe("KL_OCI_BLOB_MISSING");
  expect(await codeOf(() => layout.resolve("9.9.9"))).toBe("KL_OCI_NOT_FOUND");
  expect(await codeOf(() => layout.putManifest(Buffer.from("{}"), { mediaType: mediaTypes.index, tag: "../x" }))).toBe(
    "KL_OCI_LAYOUT",
  );

  writeFileSync(layout.blobPath(digest), "other");
  expect(await codeOf(() => layout.getBlob(digest))).toBe("KL_OCI_DIGEST_MISMATCH");
  // Writing it again mends it.
  await layout.putBlob(Buffer.from("bytes"));
  expect(await codeOf(() => layout.getBlob(digest))).toBe("accepted");

  const outside = join(folder, "outside");
  writeFileSync(outside, "linked");
  symlinkSync(outside, layout.blobPath(digestOf("linked")));
  expect(await codeOf(() => layout.getBlob(digestOf("linked")))).toBe("KL_OCI_LAYOUT");
});

test.each([
  ["no layout", "oci-layout", undefined, "KL_OCI_LAYOUT"],
  ["another version", "oci-layout", '{"imageLayoutVersion":"2.0.0"}', "KL_OCI_LAYOUT"],
  ["a broken index", "index.json", '{"schemaVersion":2,"manifests":[{}]}', "KL_OCI_LAYOUT"],
  [
    "an index with a key twice",
    "index.json",
    '{"schemaVersion":2,"schemaVersion":2,"manifests":[]}',
    "KL_JSON_DUPLICATE_KEY",
  ],
])("does not open %s", async (_, file, text, code) => {
  await OciLayout.create(folder);
  const path = join(folder, file);
  if (text === undefined) rmSync(path);
  else writeFileSync(path, text);
  expect(await codeOf(() => OciLayout.open(folder))).toBe(code);
  expect(existsSync(path)).toBe(text !== undefined);
});
