/** Somebody with a publisher's or an auditor's token who wants more than that. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bundleManifest, kernelIndex } from "@kernlock/kernels/oci";
import { auditType, createBundle } from "@kernlock/policies/trust";
import { expect, test } from "vitest";
import {
  attach,
  makePackage,
  newKey,
  policyFor,
  publish,
  pushAll,
  putBlob,
  putManifest,
  putTag,
  refusal,
  source,
  startRegistry,
  statement,
  type TestPackage,
} from "./material.ts";

const denied = (code: string) => [403, "DENIED", code];

test("a statement about another package lets nothing in, however it is attached", async () => {
  const at = await startRegistry();
  const [mine, other] = [makePackage({ name: "acme/mine" }), makePackage({ name: "acme/other" })];
  await pushAll(at, mine, { signer: null });
  const [variant] = mine.variants;
  await attach(at, at.write, mine, statement(other), undefined, at.key);
  await attach(at, at.write, mine, statement(other, other.variants[0]), variant, at.key);
  expect(await refusal(putTag(at, mine))).toEqual(denied("KL_VERDICT_SUBJECT"));
  // The name of the one with the digest of the other.
  const swapped = Buffer.from(statement(mine)).toString("utf8").replaceAll("acme/mine", "acme/other");
  await attach(at, at.write, mine, Buffer.from(swapped), undefined, at.key);
  expect(await refusal(putTag(at, mine))).toEqual(denied("KL_VERDICT_SUBJECT"));
});

test("the index of another version or package cannot be put under a tag", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const under = (name: string, tag: string) => putManifest(at, at.write, name, tag, pack.index, mediaTypes.index);
  expect(await refusal(under("acme/norm", "1.0.1"))).toEqual([400, "MANIFEST_INVALID", "KL_REGISTRY_VERSION_INVALID"]);
  expect(await refusal(under("acme/other", "1.0.0"))).toEqual([
    400,
    "MANIFEST_INVALID",
    "KL_REGISTRY_MANIFEST_INVALID",
  ]);
  const [variant] = pack.variants;
  const single = putManifest(at, at.write, "acme/norm", "1.0.0", variant!.manifest, mediaTypes.manifest);
  expect(await refusal(single)).toEqual([400, "MANIFEST_INVALID", "KL_REGISTRY_MANIFEST_INVALID"]);
});

test("of two packages that are put as one version at once, exactly one is published and nothing is mixed", async () => {
  const at = await startRegistry();
  const packs = Array.from({ length: 6 }, (_, i) =>
    makePackage({ description: `The ${i}th of them`, card: `# Card ${i}\n` }),
  );
  for (const pack of packs) await pushAll(at, pack);
  const answers = await Promise.all(packs.map((pack) => putTag(at, pack)));
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409, 409, 409, 409, 409]);
  const winner = packs[answers.findIndex(({ status }) => status === 201)]!;
  const document = await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/1.0.0`)).json();
  const card = { path: "README.md", digest: digestOf(winner.blobs[1]!) };
  expect(document).toMatchObject({ digest: winner.digest, variants: [{ files: [card, { path: "norm.so" }] }] });
  for (const pack of packs) {
    const path = `${at.origin}/v2/acme/norm/manifests/${pack.digest}`;
    expect((await fetch(path)).status).toBe(pack === winner ? 200 : 401);
  }
});

test("an auditor's bundle reaches no other namespace, no other package and nothing unpublished", async () => {
  const at = await startRegistry();
  await at.registry.createNamespace({ name: "other", policy: policyFor(at.key) });
  const { token } = await at.registry.createToken({ namespace: "other", role: "auditor" });
  const pack = makePackage();
  await publish(at, pack);
  const bundle = await createBundle(audit(pack), newKey());
  const manifest = referrer(pack, bundle);

  const intoAcme = putManifest(at, token, "acme/norm", digestOf(manifest), manifest, mediaTypes.manifest);
  expect(await refusal(intoAcme)).toEqual(denied("KL_REGISTRY_TOKEN_NAMESPACE"));
  // In its own namespace the subject of another one is nothing.
  for (const blob of [bundle, Buffer.from("{}")]) await putBlob(at, token, "other/norm", blob);
  const intoOther = putManifest(at, token, "other/norm", digestOf(manifest), manifest, mediaTypes.manifest);
  expect((await refusal(intoOther))[2]).toMatch(/^KL_REGISTRY_(TOKEN_SCOPE|MANIFEST_INCOMPLETE)$/);
  const listed = await (await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`)).json();
  expect(JSON.stringify(listed)).not.toContain(digestOf(manifest));

  const bound = await at.registry.createToken({ namespace: "acme", role: "auditor", package: "acme/other" });
  const elsewhere = putManifest(at, bound.token, "acme/norm", digestOf(manifest), manifest, mediaTypes.manifest);
  expect(await refusal(elsewhere)).toEqual(denied("KL_REGISTRY_TOKEN_NAMESPACE"));

  const next = makePackage({ version: "1.1.0" });
  await pushAll(at, next);
  const { token: auditor } = await at.registry.createToken({ namespace: "acme", role: "auditor" });
  const early = await createBundle(audit(next), newKey());
  await putBlob(at, auditor, "acme/norm", early);
  const early2 = referrer(next, early);
  const unpublished = putManifest(at, auditor, "acme/norm", digestOf(early2), early2, mediaTypes.manifest);
  expect(await refusal(unpublished)).toEqual(denied("KL_REGISTRY_TOKEN_SCOPE"));
});

test("what is attached is a statement about what it is attached to: no blob becomes public as a bundle", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const secret = Buffer.from("bytes of a version that is not published");
  await putBlob(at, at.write, "acme/norm", secret);
  const { token } = await at.registry.createToken({ namespace: "acme", role: "auditor" });
  const put = async (bytes: Uint8Array) => {
    await putBlob(at, token, "acme/norm", bytes);
    const manifest = referrer(pack, bytes);
    return putManifest(at, token, "acme/norm", digestOf(manifest), manifest, mediaTypes.manifest);
  };
  const refused = [400, "MANIFEST_INVALID", "KL_REGISTRY_BUNDLE_SUBJECT"];
  const key = newKey();
  expect(await refusal(put(secret))).toEqual(refused);
  expect(await refusal(put(await createBundle(audit(makePackage({ version: "9.9.9" })), key)))).toEqual(refused);
  expect((await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(secret)}`)).status).toBe(401);
  const good = await createBundle(audit(pack), key);
  expect((await put(good)).status).toBe(201);

  // Bundles about bundles would never end.
  const subject = referrer(pack, good);
  const text = Buffer.from(audit(pack)).toString("utf8").replace(pack.digest.slice(7), digestOf(subject).slice(7));
  const second = await createBundle(Buffer.from(text), key);
  await putBlob(at, token, "acme/norm", second);
  const descriptor = { mediaType: mediaTypes.manifest, digest: digestOf(subject), size: subject.byteLength };
  const onTop = bundleManifest({ bundle: second, predicateType: auditType, subject: descriptor });
  const attempt = putManifest(at, token, "acme/norm", digestOf(onTop), onTop, mediaTypes.manifest);
  expect(await refusal(attempt)).toEqual(refused);
});

test("one token cannot fill the place of everybody's statements", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const auditors = [];
  for (let i = 0; i < 2; i++) auditors.push(await at.registry.createToken({ namespace: "acme", role: "auditor" }));
  const key = newKey();
  await putBlob(at, at.write, "acme/norm", Buffer.from("{}"));
  const put = async (token: string, n: number) => {
    const bundle = await createBundle(audit(pack, `${n}`), key);
    await putBlob(at, token, "acme/norm", bundle);
    const manifest = referrer(pack, bundle);
    return putManifest(at, token, "acme/norm", digestOf(manifest), manifest, mediaTypes.manifest);
  };
  const answers = [];
  for (let n = 0; n < 34; n++) answers.push(await put(auditors[0]!.token, n));
  expect(answers.map(({ status }) => status)).toEqual([...Array(32).fill(201), 409, 409]);
  expect((await refusal(answers[33]!))[2]).toBe("KL_REGISTRY_BUNDLES_FULL");
  expect((await put(auditors[1]!.token, 100)).status).toBe(201);
});

test("a thousand other referrers on a subject delay no judgement and hide no bundle", async () => {
  const at = await startRegistry({ limits: { write: 100_000 } });
  const pack = makePackage();
  await pushAll(at, pack);
  const text = Buffer.from("{}");
  await putBlob(at, at.write, pack.name, text);
  for (let i = 0; i < 1000; i += 50) {
    const some = Array.from({ length: 50 }, (_, j) => note(pack, text, i + j));
    const put = some.map((bytes) => putManifest(at, at.write, pack.name, digestOf(bytes), bytes, mediaTypes.manifest));
    expect((await Promise.all(put)).every(({ status }) => status === 201)).toBe(true);
  }
  expect((await putTag(at, pack)).status).toBe(201);
  const filtered = `${at.origin}/v2/acme/norm/referrers/${pack.digest}?artifactType=${encodeURIComponent(mediaTypes.bundle)}`;
  const listed = (await (await fetch(filtered)).json()) as { manifests: unknown[] };
  expect(listed.manifests).toHaveLength(1);
});

test("more bundles on an index than a client reads are refused before it is published", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack);
  const key = newKey();
  const answers = [];
  for (let n = 0; n < 65; n++) {
    const bundle = await createBundle(audit(pack, `${n}`), key);
    await putBlob(at, at.write, pack.name, bundle);
    const manifest = referrer(pack, bundle);
    answers.push(await putManifest(at, at.write, pack.name, digestOf(manifest), manifest, mediaTypes.manifest));
  }
  // One is there already: the provenance.
  expect(answers.map(({ status }) => status)).toEqual([...Array(63).fill(201), 409, 409]);
  expect((await putTag(at, pack)).status).toBe(201);
});

test("documents that are too large are refused by their size, unread", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  const huge = Buffer.alloc(2 << 20, 0x20);
  huge.set(pack.variants[0]!.config);
  const manifest = withConfig(pack.variants[0]!.manifest, huge);
  const index = kernelIndex({
    ...{ name: pack.name, version: pack.version, source: source.repository, revision: source.revision },
    ...{ licenses: "Apache-2.0", description: "A config that is too large" },
    variants: [
      {
        variant: "linux-x86_64-cpu-v3",
        manifest: { mediaType: mediaTypes.manifest, digest: digestOf(manifest), size: manifest.byteLength },
      },
    ],
  });
  for (const blob of [...pack.blobs, huge]) expect((await putBlob(at, at.write, pack.name, blob)).status).toBe(201);
  await putManifest(at, at.write, pack.name, digestOf(manifest), manifest, mediaTypes.manifest);
  const tag = putManifest(at, at.write, pack.name, pack.version, index, mediaTypes.index);
  const [status, , code] = await refusal(tag);
  expect([status, code]).toEqual([413, "KL_REGISTRY_BLOB_TOO_LARGE"]);

  await publish(at, pack);
  const bundle = Buffer.alloc((4 << 20) + 1, 0x20);
  await putBlob(at, at.write, pack.name, bundle);
  const attached = referrer(pack, bundle);
  const put = putManifest(at, at.write, pack.name, digestOf(attached), attached, mediaTypes.manifest);
  expect((await refusal(put))[2]).toBe("KL_REGISTRY_BLOB_TOO_LARGE");
});

test("a descriptor that lies about a size or names a blob of another package is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  for (const blob of pack.blobs) await putBlob(at, at.write, "acme/other", blob);
  const [variant] = pack.variants;
  const put = () =>
    putManifest(at, at.write, pack.name, digestOf(variant!.manifest), variant!.manifest, mediaTypes.manifest);
  const incomplete = [400, "MANIFEST_BLOB_UNKNOWN", "KL_REGISTRY_MANIFEST_INCOMPLETE"];
  expect(await refusal(put()), "blobs of another package").toEqual(incomplete);
  for (const blob of pack.blobs) await putBlob(at, at.write, pack.name, blob);
  const text = Buffer.from(variant!.manifest).toString("utf8");
  const lie = Buffer.from(text.replace(`"size":${pack.payload.byteLength}`, `"size":${pack.payload.byteLength + 1}`));
  expect(lie.equals(Buffer.from(variant!.manifest))).toBe(false);
  const lied = putManifest(at, at.write, pack.name, digestOf(lie), lie, mediaTypes.manifest);
  expect(await refusal(lied)).toEqual(incomplete);
});

test("evidence that comes while a version is judged is part of the judgement or of the version, and is never lost", async () => {
  const at = await startRegistry();
  const auditor = newKey();
  for (let round = 0; round < 6; round++) {
    const pack = makePackage({ version: `1.0.${round}` });
    await pushAll(at, pack);
    const bundle = await createBundle(audit(pack), auditor);
    await putBlob(at, at.write, pack.name, bundle);
    const manifest = referrer(pack, bundle);
    const [tag, put] = await Promise.all([
      putTag(at, pack),
      putManifest(at, at.write, pack.name, digestOf(manifest), manifest, mediaTypes.manifest),
    ]);
    expect([tag.status, put.status]).toEqual([201, 201]);
    const listed = await (await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`)).json();
    expect(JSON.stringify(listed)).toContain(digestOf(manifest));
    expect((await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bundle)}`)).status).toBe(200);
  }
});

test("two nodes on one database publish a version once, and see each other's evidence", async () => {
  const at = await startRegistry();
  const { createRegistry } = await import("../index.ts");
  const { onTestFinished } = await import("vitest");
  const second = await createRegistry({ dataFolder: at.folder });
  onTestFinished(() => second.close());
  const node = await second.listen();
  const pack = makePackage();
  await pushAll(at, pack);
  const other = makePackage({ description: "Another one" });
  await pushAll({ ...at, origin: node.origin }, other);
  const answers = await Promise.all([putTag(at, pack), putTag({ ...at, origin: node.origin }, other)]);
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409]);
  const bundle = await createBundle(audit(answers[0]!.status === 201 ? pack : other), newKey());
  const manifest = referrer(answers[0]!.status === 201 ? pack : other, bundle);
  await putBlob({ origin: node.origin }, at.write, pack.name, bundle);
  const put = putManifest(
    { origin: node.origin },
    at.write,
    pack.name,
    digestOf(manifest),
    manifest,
    mediaTypes.manifest,
  );
  expect((await put).status).toBe(201);
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/${digestOf(manifest)}`)).status).toBe(200);
});

test("a token that is revoked publishes nothing from then on, not even what is under way", async () => {
  const at = await startRegistry();
  for (let round = 0; round < 6; round++) {
    const { id, token } = await at.registry.createToken({ namespace: "acme", role: "publisher" });
    const pack = makePackage({ version: `1.0.${round}` });
    await pushAll(at, pack);
    const [answer] = await Promise.all([putTag(at, pack, token), at.registry.revokeToken(id)]);
    const log = await at.registry.auditAfter(0, 1000);
    const published = log.find(({ actor, action }) => actor === `token:${id}` && action === "version.publish");
    const revoked = log.find(({ action, subject }) => action === "token.revoke" && subject === id);
    expect([answer.status, published?.seq ?? 0]).toEqual(published === undefined ? [401, 0] : [201, published.seq]);
    expect(published?.seq ?? 0).toBeLessThan(revoked!.seq);
  }
});

test("a publisher does not audit itself, and a token alone makes nobody a publisher", async () => {
  const at = await startRegistry();
  const audited = "    require: { audit: { by: [team], criteria: [reviewed] } }\n";
  const policy = policyFor(at.key).replace("numerics:", `${audited}numerics:`).concat("criteria: { reviewed: {} }\n");
  await at.registry.setPolicy({ namespace: "acme", policy });
  const pack = makePackage();
  await pushAll(at, pack);
  await attach(at, at.write, pack, audit(pack), undefined, at.key);
  expect(await refusal(putTag(at, pack))).toEqual(denied("KL_VERDICT_SELF_AUDIT"));
  const { token } = await at.registry.createToken({ namespace: "acme", role: "admin" });
  expect(await refusal(putTag(at, pack, token))).toEqual(denied("KL_VERDICT_SELF_AUDIT"));
});

function audit(pack: TestPackage, notes = ""): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: pack.name, digest: { sha256: pack.digest.slice("sha256:".length) } }],
      predicateType: auditType,
      predicate: {
        kernlock: {
          ...{ package: pack.name, version: pack.version, variant: null, scope: "index" },
          issued: new Date().toISOString(),
        },
        ...{ kind: "full", criteria: ["reviewed"], result: "pass", notes },
      },
    }),
  );
}

function referrer(pack: TestPackage, bundle: Uint8Array): Uint8Array {
  const subject = { mediaType: mediaTypes.index, digest: pack.digest, size: pack.index.byteLength };
  return bundleManifest({ bundle, predicateType: auditType, subject });
}

/** A referrer that is no bundle. */
function note({ digest, index }: TestPackage, blob: Uint8Array, n: number): Uint8Array {
  const empty = { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf(blob), size: blob.byteLength };
  return Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: mediaTypes.manifest, artifactType: "application/vnd.example.note" },
      ...{ config: empty, layers: [empty], annotations: { n: `${n}` } },
      subject: { mediaType: mediaTypes.index, digest, size: index.byteLength },
    }),
  );
}

function withConfig(manifest: Uint8Array, config: Uint8Array): Uint8Array {
  const json = JSON.parse(Buffer.from(manifest).toString("utf8"));
  json.config = { ...json.config, digest: digestOf(config), size: config.byteLength };
  return Buffer.from(JSON.stringify(json));
}
