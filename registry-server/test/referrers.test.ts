import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { makePackage, publish, pushAll, putBlob, putManifest, refusal, startRegistry } from "./material.ts";

test("the answer has exactly the media type that stock clients look for", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  for (const subject of [pack.digest, digestOf("nothing there")]) {
    const answer = await fetch(`${at.origin}/v2/acme/norm/referrers/${subject}`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("application/vnd.oci.image.index.v1+json");
    expect(answer.headers.get("link")).toBeNull();
    expect(await answer.json()).toMatchObject({ schemaVersion: 2, mediaType: mediaTypes.index });
  }
});

test("referrers are listed with type, annotations and size, and filtered by type", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const get = async (query: string) => {
    const answer = await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}${query}`);
    const { manifests } = (await answer.json()) as { manifests: Record<string, unknown>[] };
    return { manifests, filters: answer.headers.get("oci-filters-applied") };
  };
  const all = await get("");
  expect(all.filters).toBeNull();
  expect(all.manifests).toMatchObject([
    {
      mediaType: mediaTypes.manifest,
      artifactType: mediaTypes.bundle,
      annotations: { "dev.sigstore.bundle.content": "dsse-envelope" },
    },
  ]);
  const bytes = await (await fetch(`${at.origin}/v2/acme/norm/manifests/${all.manifests[0]!.digest}`)).arrayBuffer();
  expect(bytes.byteLength).toBe(all.manifests[0]!.size);
  expect(await get(`?artifactType=${encodeURIComponent(mediaTypes.bundle)}`)).toEqual({
    ...all,
    filters: "artifactType",
  });
  expect(await get("?artifactType=text/plain")).toEqual({ manifests: [], filters: "artifactType" });
});

test("putting a referrer tells its subject", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const subject = { mediaType: mediaTypes.index, digest: pack.digest, size: pack.index.byteLength };
  const empty = { mediaType: mediaTypes.empty, digest: digestOf("{}"), size: 2 };
  const note = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: "text/plain",
      config: empty,
      layers: [empty],
      subject,
    }),
  );
  await putBlob(at, at.write, "acme/norm", Buffer.from("{}"));
  const answer = await putManifest(at, at.write, "acme/norm", digestOf(note), note, mediaTypes.manifest);
  expect([answer.status, answer.headers.get("oci-subject")]).toEqual([201, pack.digest]);
});

test("what calls itself a bundle and is none is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const empty = { mediaType: mediaTypes.empty, digest: digestOf("{}"), size: 2 };
  const bundle = { ...empty, mediaType: mediaTypes.bundle };
  for (const layers of [[], [bundle, bundle], [empty]]) {
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.manifest,
        artifactType: mediaTypes.bundle,
        config: empty,
        layers,
        subject: { mediaType: mediaTypes.index, digest: pack.digest, size: pack.index.byteLength },
      }),
    );
    const answer = putManifest(at, at.write, "acme/norm", digestOf(bytes), bytes, mediaTypes.manifest);
    expect((await refusal(answer))[2]).toMatch(/^KL_OCI_/);
  }
});
