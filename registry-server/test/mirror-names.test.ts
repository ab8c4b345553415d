/** Which names leave the house, and which never do. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { linesOf } from "../mirror/versions.ts";
import { openRecords } from "../store/open.ts";
import { bearer, makePackage, policyFor, publish, putManifest, refusal, startRegistry } from "./material.ts";
import { frontOf, manifestOf, put, startMirror, startShelf } from "./mirror-material.ts";

test("an upstream hears of declared names only, whatever exists there", async () => {
  const upstream = await startShelf();
  for (const name of ["acme/secret", "acme/up-norm", "acme/upstart", "acme/norm"]) {
    await put(upstream.shelf, makePackage({ name }), upstream.key);
  }
  const at = await startMirror(upstream, { pattern: "acme/up-*" });
  await at.registry.createNamespace({ name: "own", policy: policyFor(upstream.key) });
  const paths = ["manifests/1.0.0", "tags/list", `manifests/${makePackage().digest}`];
  for (const name of ["acme/secret", "acme/upstart", "acme/norm", "own/up-norm", "other/up-norm"]) {
    for (const path of paths) {
      expect([401, 404]).toContain((await fetch(`${at.origin}/v2/${name}/${path}`)).status);
    }
    expect([401, 404]).toContain((await fetch(`${at.origin}/api/v1/kernels/${name}`)).status);
    expect([401, 404]).toContain((await fetch(`${at.origin}/api/v1/kernels/${name}/1.0.0`)).status);
    await fetch(`${at.origin}/v2/${name}/referrers/${makePackage().digest}`);
    await fetch(`${at.origin}/v2/${name}/blobs/${makePackage().digest}`);
    await fetch(`${at.origin}/kernels/${name}`);
  }
  expect(upstream.asked).toEqual([]);
});

test("who may not read a private namespace makes nobody ask for it", async () => {
  const upstream = await startShelf();
  await put(upstream.shelf, makePackage(), upstream.key);
  const at = await startMirror(upstream);
  await at.registry.updateNamespace({ namespace: "acme", visibility: "private" });
  await at.registry.createNamespace({ name: "own", policy: policyFor(upstream.key) });
  const foreign = await at.registry.createToken({ namespace: "own", role: "admin" });
  expect((await manifestOf(at, "1.0.0")).status).toBe(401);
  const answer = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { headers: bearer(foreign.token) });
  expect(answer.status).toBe(403);
  expect(upstream.asked).toEqual([]);
  const own = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { headers: bearer(at.write) });
  expect(own.status).toBe(200);
});

test("a mirror is not declared over packages of the registry's own", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  const declare = (pattern: string, adopt = false) =>
    at.registry.declareMirror({ pattern, origin: "https://upstream.example", adopt });
  for (const pattern of ["acme/*", "acme/no*", "acme/norm"]) {
    await expect(declare(pattern)).rejects.toMatchObject({
      code: "KL_MIRROR_LOCAL",
      details: { local: ["acme/norm"] },
    });
  }
  await declare("acme/up-*");
  for (const pattern of ["acme/*", "acme/up-norm", "acme/up*"]) {
    await expect(declare(pattern, true)).rejects.toMatchObject({ code: "KL_MIRROR_OVERLAP" });
  }
  await expect(
    at.registry.declareMirror({ pattern: "acme/up-*", origin: "https://other.example" }),
  ).rejects.toMatchObject({ code: "KL_MIRROR_OVERLAP" });
  expect(await at.registry.dropMirror("acme/up-*")).toBe(true);
  expect(await at.registry.dropMirror("acme/up-*")).toBe(false);
  const audit = await at.registry.auditAfter(0, 100);
  expect(audit.map(({ action }) => action).filter((action) => action.startsWith("mirror."))).toEqual([
    "mirror.declare",
    "mirror.drop",
  ]);
});

test("a package that slipped in beside the declaration keeps its name to itself", async () => {
  const upstream = await startShelf();
  for (const name of ["acme/norm", "acme/other"]) await put(upstream.shelf, makePackage({ name }), upstream.key);
  const at = await startMirror(upstream);
  // As a node leaves it that has not noticed the declaration yet.
  const records = await openRecords({ dataFolder: at.folder });
  const row = {
    repository: "acme/norm",
    digest: digestOf("local"),
    mediaType: mediaTypes.manifest,
    artifactType: null,
    subject: null,
    annotations: null,
    bytes: Buffer.from("local"),
    visible: 0 as const,
  };
  await records.addManifest(row, { blobs: [], manifests: [] }, { at: new Date().toISOString(), by: "token:local" });
  await records.close();
  expect((await manifestOf(at, "1.0.0")).status).toBe(404);
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`)).status).toBe(404);
  expect(upstream.asked).toEqual([]);
  expect((await manifestOf(at, "1.0.0", "acme/other")).status).toBe(200);
});

test("what was mirrored stays when the mirror is dropped, and the name is the registry's own", async () => {
  const upstream = await startRegistry();
  const front = await frontOf(upstream.origin);
  await publish(upstream, makePackage());
  const at = await startMirror({ origin: front.origin, key: upstream.key });
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  await at.registry.dropMirror("acme/*");
  const next = makePackage({ version: "2.0.0" });
  // The server notices within a second.
  await expect
    .poll(
      async () => (await putManifest(at, at.write, "acme/norm", next.digest, next.index, mediaTypes.index)).status,
      { timeout: 20_000 },
    )
    .toBe(201);
  await publish({ ...at, read: "" }, next);
  const asked = front.asked.length;
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  expect((await manifestOf(at, "3.0.0")).status).toBe(404);
  expect(front.asked).toHaveLength(asked);
  await expect(at.registry.declareMirror({ pattern: "acme/*", origin: front.origin })).rejects.toMatchObject({
    code: "KL_MIRROR_LOCAL",
  });
});

test("declarations that cannot be meant are refused", async () => {
  const at = await startRegistry();
  const good = { pattern: "acme/up-*", origin: "https://upstream.example" };
  const refused = (change: Parameters<typeof at.registry.declareMirror>[0] | object) =>
    expect(at.registry.declareMirror({ ...good, ...change })).rejects;
  for (const pattern of ["", "*", "*/*", "acme", "acme/", "acme/*x", "Acme/*", "acme/a*b*", "a/b/c"]) {
    await refused({ pattern }).toMatchObject({ code: "KL_MIRROR_CONFIG" });
  }
  for (const origin of ["x", "ftp://a.example", "https://u:p@a.example", "https://a.example/path", "file:///etc"]) {
    await refused({ origin }).toMatchObject({ code: "KL_MIRROR_CONFIG" });
  }
  for (const prefix of ["x", "/x/", "../", "a/../b/", "A/"]) {
    await refused({ prefix }).toMatchObject({ code: "KL_MIRROR_CONFIG" });
  }
  for (const credentials of ["env:AWS_SECRET_ACCESS_KEY", "env:PGPASSWORD", "secret", "file:relative"]) {
    await refused({ settings: { credentials } }).toMatchObject({ code: "KL_MIRROR_CONFIG" });
  }
  await refused({ origin: "http://a.example", settings: { credentials: "env:KERNLOCK_UPSTREAM_X" } }).toMatchObject({
    code: "KL_MIRROR_CONFIG",
  });
  for (const settings of [{ hosts: ["https://a"] }, { coolDownDays: -1 }, { freshSeconds: 0 }, { ca: "ca.pem" }]) {
    await refused({ settings }).toMatchObject({ code: "KL_MIRROR_CONFIG" });
  }
  await refused({ pattern: "nobody/*" }).toMatchObject({ code: "KL_REGISTRY_NAMESPACE_UNKNOWN" });
  expect(await at.registry.listMirrors()).toEqual([]);
});

test("mirrors are shown to admins of their namespace, without where the credentials lie", async () => {
  const upstream = await startShelf();
  const at = await startMirror(upstream, { settings: { credentials: "file:/nowhere/secret" } });
  const list = (token?: string) =>
    fetch(`${at.origin}/api/v1/mirrors`, token === undefined ? {} : { headers: bearer(token) });
  expect((await list()).status).toBe(401);
  expect(await (await list(at.write)).json()).toEqual({ mirrors: [] });
  const shown = await (await list(at.admin)).text();
  expect(JSON.parse(shown)).toMatchObject({ mirrors: [{ pattern: "acme/*", credentials: true, packages: [] }] });
  expect(shown).not.toContain("nowhere");
  const refreshed = fetch(`${at.origin}/api/v1/mirrors/${at.mirror}/refresh`, {
    method: "POST",
    headers: bearer(at.write),
    body: "{}",
  });
  expect((await refusal(refreshed))[2]).toBe("KL_REGISTRY_TOKEN_SCOPE");
  const page = await (await fetch(`${at.origin}/namespaces/acme`)).text();
  expect(page).toContain(`<code>acme/*</code> is mirrored from ${upstream.origin}`);
  // Credentials that cannot be read stop everything, and say nothing.
  expect(await refusal(manifestOf(at, "1.0.0"))).toEqual([502, "UNSUPPORTED", "KL_MIRROR_SECRET"]);
  expect(upstream.asked).toEqual([]);
});

test("a list of tags is taken apart into lines", () => {
  expect(linesOf(["1.0.0", "1.10.0", "1.9.0", "2.0.0", "0.1.0", "0.2.5", "3.0.0-rc.1", "latest", "1.0.0+b"])).toEqual([
    ["2.0.0"],
    ["1.10.0", "1.9.0", "1.0.0"],
    ["0.2.5"],
    ["0.1.0"],
  ]);
  expect(linesOf(["1.0.0-a", "1.0.0-b"])).toEqual([["1.0.0-b", "1.0.0-a"]]);
  expect(linesOf([])).toEqual([]);
  expect(linesOf(Array.from({ length: 40 }, (_, i) => `${i + 1}.0.0`))).toHaveLength(10);
});
