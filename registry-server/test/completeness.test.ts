import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { makePackage, pushAll, putBlob, putManifest, putTag, refusal, startRegistry } from "./material.ts";

test("a tag on an index whose variant is not here is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  expect(await refusal(putTag(at, pack))).toEqual([400, "MANIFEST_BLOB_UNKNOWN", "KL_REGISTRY_MANIFEST_INCOMPLETE"]);
});

test("a manifest is taken only after its blobs", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  const { manifest, config } = pack.variants[0]!;
  await putBlob(at, at.write, pack.name, config);
  expect(
    await refusal(putManifest(at, at.write, pack.name, digestOf(manifest), manifest, mediaTypes.manifest)),
  ).toEqual([400, "MANIFEST_BLOB_UNKNOWN", "KL_REGISTRY_MANIFEST_INCOMPLETE"]);
});

test("blobs of another repository do not count", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  for (const blob of pack.blobs) await putBlob(at, at.write, "acme/other", blob);
  const { manifest } = pack.variants[0]!;
  const answer = putManifest(at, at.write, pack.name, digestOf(manifest), manifest, mediaTypes.manifest);
  expect((await refusal(answer))[2]).toBe("KL_REGISTRY_MANIFEST_INCOMPLETE");
});

test("a descriptor whose size lies is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const manifest = JSON.parse(Buffer.from(pack.variants[0]!.manifest).toString("utf8"));
  manifest.layers[0].size += 1;
  const bytes = Buffer.from(JSON.stringify(manifest));
  const answer = putManifest(at, at.write, pack.name, digestOf(bytes), bytes, mediaTypes.manifest);
  expect((await refusal(answer))[2]).toBe("KL_REGISTRY_MANIFEST_INCOMPLETE");
});

test("variant.json that names another package or version than its index is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage({ change: (variant) => ({ ...variant, version: "9.9.9" }) });
  await pushAll(at, pack);
  expect((await refusal(putTag(at, pack)))[2]).toBe("KL_OCI_CONFIG_DIFFERS");
});

test("a manifest with a layer that variant.json does not name is refused", async () => {
  const at = await startRegistry();
  const good = makePackage();
  await pushAll(at, good);
  const extra = Buffer.from("not declared");
  await putBlob(at, at.write, good.name, extra);
  const manifest = JSON.parse(Buffer.from(good.variants[0]!.manifest).toString("utf8"));
  manifest.layers.push({
    mediaType: mediaTypes.file,
    digest: digestOf(extra),
    size: extra.byteLength,
    annotations: { "org.opencontainers.image.title": "z.bin" },
  });
  const bytes = Buffer.from(JSON.stringify(manifest));
  expect((await putManifest(at, at.write, good.name, digestOf(bytes), bytes, mediaTypes.manifest)).status).toBe(201);
  const index = JSON.parse(Buffer.from(good.index).toString("utf8"));
  Object.assign(index.manifests[0], { digest: digestOf(bytes), size: bytes.byteLength });
  const tagged = Buffer.from(JSON.stringify(index));
  const answer = putManifest(at, at.write, good.name, good.version, tagged, mediaTypes.index);
  expect((await refusal(answer))[2]).toBe("KL_OCI_FILE_UNLISTED");
});

test("the tag must be the version that the index names, in the repository it names", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const put = (name: string, tag: string) =>
    refusal(putManifest(at, at.write, name, tag, pack.index, mediaTypes.index));
  expect((await put("acme/norm", "1.0.1"))[2]).toBe("KL_REGISTRY_VERSION_INVALID");
  expect((await put("acme/other", "1.0.0"))[2]).toBe("KL_REGISTRY_MANIFEST_INVALID");
  for (const tag of ["latest", "v1.0.0", "1.0", "01.0.0", "1.0.0+build"]) {
    expect(await put("acme/norm", encodeURIComponent(tag)), tag).toEqual([
      400,
      "MANIFEST_INVALID",
      "KL_REGISTRY_VERSION_INVALID",
    ]);
  }
});

test("a single manifest cannot be a version", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const { manifest } = pack.variants[0]!;
  const answer = putManifest(at, at.write, pack.name, "1.0.0", manifest, mediaTypes.manifest);
  expect((await refusal(answer))[2]).toBe("KL_REGISTRY_MANIFEST_INVALID");
});

test.each([
  ["no JSON", "not json", "KL_JSON_SYNTAX"],
  ["a duplicate key", '{"schemaVersion":2,"schemaVersion":2}', "KL_JSON_DUPLICATE_KEY"],
  ["trailing data", "{} {}", "KL_JSON_TRAILING"],
  ["another schema", '{"schemaVersion":1}', "KL_REGISTRY_MANIFEST_INVALID"],
  ["nothing", "", "KL_JSON_SYNTAX"],
])("a manifest that is %s is refused", async (_what, text, code) => {
  const at = await startRegistry();
  const bytes = Buffer.from(text);
  const answer = putManifest(at, at.write, "acme/norm", digestOf(bytes), bytes, mediaTypes.manifest);
  expect((await refusal(answer))[2]).toBe(code);
});

test("a manifest of more than 4 MiB is refused", async () => {
  const at = await startRegistry();
  const bytes = Buffer.alloc((4 << 20) + 1, 32);
  const answer = putManifest(at, at.write, "acme/norm", digestOf(bytes), bytes, mediaTypes.manifest);
  expect(await refusal(answer)).toEqual([413, "SIZE_INVALID", "KL_REGISTRY_MANIFEST_TOO_LARGE"]);
});
