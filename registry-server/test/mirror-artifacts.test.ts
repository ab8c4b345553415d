/** Plain OCI from any registry: lazily, one by one, and only what is named. */
import { type Digest, digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, putManifest, refusal, stored, unfinished } from "./material.ts";
import { blobOf, manifestOf, type Shelf, startMirror, startShelf } from "./mirror-material.ts";

const docker = "application/vnd.docker.distribution.manifest.v2+json";

function image(shelf: Shelf, text: string, tag: string, type: string = mediaTypes.manifest) {
  const [config, layer] = [Buffer.from(`{"of":"${text}"}`), Buffer.alloc(100_000, text)];
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: type,
      config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length },
      layers: [{ mediaType: "application/octet-stream", digest: digestOf(layer), size: layer.length }],
    }),
  );
  for (const blob of [config, layer]) shelf.blobs.set(digestOf(blob), blob);
  for (const name of [tag, digestOf(bytes)]) shelf.manifests.set(name, { bytes, type });
  if (!shelf.tags.includes(tag)) shelf.tags.push(tag);
  return { bytes, digest: digestOf(bytes), config: digestOf(config), layer: digestOf(layer) };
}

async function start(options: Parameters<typeof startMirror>[1] = {}) {
  const upstream = await startShelf();
  const at = await startMirror(upstream, { kind: "artifacts", prefix: "library/", ...options });
  const tagOf = async (tag: string) => {
    const answer = await manifestOf(at, tag);
    return answer.status === 200 ? answer.headers.get("docker-content-digest") : answer.status;
  };
  return { upstream, at, tagOf };
}

test("a tag, then what it names, each when it is asked for; blobs when they are whole", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  image(upstream.shelf, "two", "other");
  expect((await manifestOf(at, "latest")).status).toBe(200);
  expect(upstream.asked.map(({ path }) => path)).toEqual(["/v2/library/norm/manifests/latest"]);
  const layer = await blobOf(at, one.layer);
  expect(digestOf(new Uint8Array(await layer.arrayBuffer()))).toBe(one.layer);
  expect(upstream.asked).toHaveLength(2);
  // The configuration was not asked for, and the other image was not either.
  expect(stored(at)).toEqual([one.layer.slice(7)]);
  const part = await fetch(`${at.origin}/v2/acme/norm/blobs/${one.config}`, { headers: { range: "bytes=1-3" } });
  expect([part.status, await part.text()]).toEqual([206, '"of']);
});

test("a hundred who ask at once for a cold blob are one question to the upstream", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  await manifestOf(at, "latest");
  const herd = await Promise.all(Array.from({ length: 100 }, () => blobOf(at, one.layer)));
  expect(herd.map(({ status }) => status)).toEqual(herd.map(() => 200));
  expect(upstream.count(one.layer)).toBe(1);
  const manifests = await Promise.all(Array.from({ length: 100 }, () => manifestOf(at, "other")));
  expect(manifests.map(({ status }) => status)).toEqual(manifests.map(() => 404));
  expect(upstream.count("/manifests/other")).toBe(1);
});

test("only blobs that a manifest names are fetched, by digest", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  expect((await blobOf(at, one.layer)).status).toBe(404);
  expect((await blobOf(at, digestOf("anything"))).status).toBe(404);
  expect(upstream.asked).toEqual([]);
  expect((await manifestOf(at, one.digest)).status).toBe(200);
  expect((await blobOf(at, one.layer)).status).toBe(200);
  expect(await refusal(manifestOf(at, "not a tag!"))).toEqual([
    404,
    "MANIFEST_UNKNOWN",
    "KL_REGISTRY_MANIFEST_UNKNOWN",
  ]);
  expect(upstream.count("not")).toBe(0);
});

test("a tag is asked about again when its time is over, and only then; a digest never", async () => {
  const { upstream, at, tagOf } = await start();
  const one = image(upstream.shelf, "one", "latest");
  expect(await tagOf("latest")).toBe(one.digest);
  const two = image(upstream.shelf, "two", "latest");
  expect(await tagOf("latest")).toBe(one.digest);
  at.clock.ahead += 301_000;
  expect(await tagOf("latest")).toBe(two.digest);
  at.clock.ahead += 301_000;
  expect(await tagOf("latest")).toBe(two.digest);
  const asked = upstream.asked.filter(({ path }) => path.endsWith("/latest"));
  expect(asked.map(({ headers }) => headers["if-none-match"])).toEqual([
    undefined,
    `"${one.digest}"`,
    `"${two.digest}"`,
  ]);
  expect(await tagOf(one.digest)).toBe(one.digest);
  expect(upstream.count(one.digest)).toBe(0);
  // Gone there, gone here; what it named can still be had by its digest.
  upstream.shelf.manifests.delete("latest");
  at.clock.ahead += 301_000;
  expect(await tagOf("latest")).toBe(404);
  expect(await tagOf(two.digest)).toBe(two.digest);
});

test("while the upstream is away a tag stays what it was, and says so", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  await manifestOf(at, "latest");
  await blobOf(at, one.layer);
  await upstream.stop();
  at.clock.ahead += 301_000;
  const stale = await manifestOf(at, "latest");
  expect([stale.status, stale.headers.get("kernlock-mirror")]).toEqual([200, "stale"]);
  expect((await blobOf(at, one.layer)).status).toBe(200);
  expect((await refusal(blobOf(at, one.config)))[2]).toBe("KL_MIRROR_UNAVAILABLE");
});

test("indexes come without their children, and manifests of Docker as they are", async () => {
  const { upstream, at } = await start();
  const [one, two] = [image(upstream.shelf, "one", "a", docker), image(upstream.shelf, "two", "b")];
  const entry = (child: { digest: Digest; bytes: Buffer }, type: string) => ({
    mediaType: type,
    digest: child.digest,
    size: child.bytes.length,
  });
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: [entry(one, docker), entry(two, mediaTypes.manifest)],
    }),
  );
  for (const name of ["all", digestOf(bytes)]) upstream.shelf.manifests.set(name, { bytes, type: mediaTypes.index });
  expect((await manifestOf(at, "all")).status).toBe(200);
  expect(upstream.asked).toHaveLength(1);
  const child = await manifestOf(at, one.digest);
  expect([child.status, child.headers.get("content-type")]).toEqual([200, docker]);
  expect(upstream.count(two.digest)).toBe(0);
});

test("lists of tags are the upstream's, with what is held besides", async () => {
  const { upstream, at } = await start();
  for (const tag of ["a", "b", "c"]) image(upstream.shelf, tag, tag);
  const list = async (query = "") => {
    const answer = await fetch(`${at.origin}/v2/acme/norm/tags/list${query}`);
    return { ...((await answer.json()) as { tags: string[] }), link: answer.headers.get("link") };
  };
  expect((await list()).tags).toEqual(["a", "b", "c"]);
  expect(await list("?n=2")).toMatchObject({
    tags: ["a", "b"],
    link: '</v2/acme/norm/tags/list?n=2&last=b>; rel="next"',
  });
  expect((await list("?n=2&last=b")).tags).toEqual(["c"]);
  expect(upstream.count("/tags/list")).toBe(1);
  await manifestOf(at, "a");
  await upstream.stop();
  at.clock.ahead += 301_000;
  expect((await list()).tags).toEqual(["a", "b", "c"]);
});

test("referrers come with their subject's, and are checked to speak about it", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  const note = (about: Digest) =>
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.manifest,
        artifactType: "text/plain",
        config: { mediaType: mediaTypes.empty, digest: digestOf("{}"), size: 2 },
        layers: [],
        subject: { mediaType: mediaTypes.manifest, digest: about, size: one.bytes.length },
      }),
    );
  const [right, wrong] = [note(one.digest), note(digestOf("something else"))];
  const entries = [right, wrong].map((bytes) => {
    upstream.shelf.manifests.set(digestOf(bytes), { bytes, type: mediaTypes.manifest });
    return { mediaType: mediaTypes.manifest, digest: digestOf(bytes), size: bytes.length, artifactType: "text/plain" };
  });
  upstream.shelf.referrers.set(one.digest, entries);
  await manifestOf(at, "latest");
  const answer = await fetch(`${at.origin}/v2/acme/norm/referrers/${one.digest}`);
  const { manifests } = (await answer.json()) as { manifests: { digest: string }[] };
  expect(manifests.map(({ digest }) => digest)).toEqual([digestOf(right)]);
});

test("a damaged blob is fetched again", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  await manifestOf(at, "latest");
  await blobOf(at, one.layer);
  const { openMaintenance } = await import("../index.ts");
  const { writeFileSync } = await import("node:fs");
  writeFileSync(`${at.folder}/blobs/sha256/${one.layer.slice(7)}`, Buffer.alloc(100_000, "x"));
  const care = await openMaintenance({ dataFolder: at.folder });
  expect((await care.scrub()).damaged).toHaveLength(1);
  await care.close();
  const again = await blobOf(at, one.layer);
  expect(digestOf(new Uint8Array(await again.arrayBuffer()))).toBe(one.layer);
  expect(upstream.count(one.layer)).toBe(2);
});

test("a blob that is not what was promised is not kept, and the tag waits for nobody", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  await manifestOf(at, "latest");
  upstream.lie = (_, response, path) => {
    if (!path.includes(one.layer)) return false;
    response.writeHead(200).end(Buffer.alloc(100_000, "y"));
    return true;
  };
  expect((await refusal(blobOf(at, one.layer)))[2]).toBe("KL_MIRROR_UPSTREAM");
  expect(stored(at)).toEqual([]);
  expect(unfinished(at)).toEqual([]);
  expect((await manifestOf(at, "latest")).status).toBe(200);
});

test("garbage collection keeps what a manifest names", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  await manifestOf(at, "latest");
  await blobOf(at, one.layer);
  await at.registry.collectGarbage({ graceSeconds: 0 });
  expect(stored(at)).toEqual([one.layer.slice(7)]);
});

test("nothing is pushed under a mirrored name, and no cool-down is promised that cannot be kept", async () => {
  const { upstream, at } = await start();
  const one = image(upstream.shelf, "one", "latest");
  const push = (reference: string) => putManifest(at, at.write, "acme/norm", reference, one.bytes, mediaTypes.manifest);
  expect(await refusal(push("mine"))).toEqual([403, "DENIED", "KL_MIRROR_NAME"]);
  const upload = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.write) });
  expect(upload.status).toBe(202);
  await at.registry.createNamespace({ name: "plain", kind: "artifacts" });
  await expect(
    at.registry.declareMirror({ pattern: "plain/*", origin: upstream.origin, settings: { coolDownDays: 3 } }),
  ).rejects.toMatchObject({ code: "KL_MIRROR_CONFIG" });
});
