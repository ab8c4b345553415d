/** Kernels that come from another Kernlock registry. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import {
  attach,
  bearer,
  makePackage,
  newKey,
  policyFor,
  publish,
  putManifest,
  putTag,
  refusal,
  startRegistry,
  statement,
  stored,
  unfinished,
} from "./material.ts";
import { blobOf, frontOf, manifestOf, put, startMirror, startShelf } from "./mirror-material.ts";

async function start(options: Parameters<typeof startMirror>[1] = {}) {
  const upstream = await startRegistry();
  const front = await frontOf(upstream.origin);
  const at = await startMirror({ origin: front.origin, key: upstream.key }, options);
  return { upstream, front, at };
}

test("a version comes whole, is judged here, and is asked for once", async () => {
  const { upstream, front, at } = await start();
  const pack = makePackage();
  await publish(upstream, pack);
  expect((await manifestOf(at, pack.version)).status).toBe(200);
  const index = await manifestOf(at, pack.digest);
  expect(digestOf(new Uint8Array(await index.arrayBuffer()))).toBe(pack.digest);
  for (const bytes of pack.blobs) {
    expect(Buffer.from(await (await blobOf(at, digestOf(bytes))).arrayBuffer()).equals(bytes)).toBe(true);
  }
  const referrers = await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`);
  expect(((await referrers.json()) as { manifests: unknown[] }).manifests).toHaveLength(1);
  const document = await fetch(`${at.origin}/api/v1/kernels/acme/norm/1.0.0`);
  expect(await document.json()).toMatchObject({ digest: pack.digest, verdict: { ok: true } });

  expect(front.count("/manifests/1.0.0")).toBe(1);
  for (const bytes of pack.blobs) expect(front.count(digestOf(bytes))).toBe(1);
  const audit = await at.registry.auditAfter(0, 100);
  expect(audit.find((row) => row.action === "version.publish")).toMatchObject({
    actor: `mirror:${at.mirror}`,
    subject: "acme/norm@1.0.0",
    details: expect.stringContaining(front.origin),
  });
  expect((await at.registry.verifyAudit()).broken).toBeNull();
  expect(unfinished(at)).toEqual([]);
});

test("who has a lock and asks for digests, in any order and at once, gets them", async () => {
  const { upstream, at } = await start();
  const pack = makePackage();
  await publish(upstream, pack);
  const manifests = [...pack.variants.map(({ manifest }) => digestOf(manifest)), pack.digest];
  const answers = await Promise.all(manifests.map((digest) => manifestOf(at, digest)));
  expect(answers.map(({ status }) => status)).toEqual(manifests.map(() => 200));
  const blobs = await Promise.all(pack.blobs.map((bytes) => blobOf(at, digestOf(bytes))));
  expect(blobs.map(({ status }) => status)).toEqual(pack.blobs.map(() => 200));
});

test("fifty who ask at once are one question to the upstream", async () => {
  const { upstream, front, at } = await start();
  const pack = makePackage();
  await publish(upstream, pack);
  const before = front.asked.length;
  const herd = await Promise.all(Array.from({ length: 50 }, () => manifestOf(at, "1.0.0")));
  expect(herd.map(({ status }) => status)).toEqual(herd.map(() => 200));
  const paths = front.asked.slice(before).map(({ path }) => path);
  expect(paths).toHaveLength(new Set(paths).size);
  const publishes = (await at.registry.auditAfter(0, 1000)).filter((row) => row.action === "version.publish");
  expect(publishes).toHaveLength(1);
});

test("what is not there is believed for a while, and then asked for again", async () => {
  const { upstream, front, at } = await start();
  const herd = await Promise.all(Array.from({ length: 50 }, () => manifestOf(at, "1.0.0")));
  expect(new Set(herd.map(({ status }) => status))).toEqual(new Set([404]));
  expect(front.count("/manifests/1.0.0")).toBe(1);
  await publish(upstream, makePackage());
  const before = front.count("/manifests/1.0.0");
  expect((await manifestOf(at, "1.0.0")).status).toBe(404);
  expect(front.count("/manifests/1.0.0")).toBe(before);
  at.clock.ahead += 31_000;
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("what the policy here refuses is not served, and not fetched again", async () => {
  const { upstream, front, at } = await start({ policy: policyFor(newKey()) });
  const pack = makePackage();
  await publish(upstream, pack);
  expect(await refusal(manifestOf(at, "1.0.0"))).toEqual([403, "DENIED", "KL_BUNDLE_UNKNOWN_KEY"]);
  // That could be told before the first file.
  expect(front.count(digestOf(pack.payload))).toBe(0);
  expect(stored(at)).toEqual([]);
  const before = front.asked.length;
  expect((await manifestOf(at, "1.0.0")).status).toBe(403);
  expect((await manifestOf(at, pack.digest)).status).not.toBe(200);
  for (const bytes of pack.blobs) expect((await blobOf(at, digestOf(bytes))).status).toBe(404);
  expect((await manifestOf(at, digestOf(pack.variants[0]!.manifest))).status).not.toBe(200);
  expect(front.asked.slice(before).filter(({ path }) => path.includes(digestOf(pack.payload)))).toHaveLength(0);
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`)).status).toBe(404);
  // A policy that lets it in, and an operator who says so.
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(upstream.key) });
  expect(await refresh(at, { name: "acme/norm", version: "1.0.0" })).toMatchObject({
    packages: [{ name: "acme/norm", admitted: ["1.0.0"], refused: [] }],
    problem: null,
  });
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("a list brings the newest of each line, and goes down where one is refused", async () => {
  const { upstream, at } = await start();
  for (const version of ["0.1.0", "0.1.1", "1.0.0", "1.1.0", "2.0.0-rc.1"]) {
    await publish(upstream, makePackage({ version, card: `# ${version}\n` }));
  }
  // This one is good enough there, and not here.
  const other = newKey();
  await upstream.registry.setPolicy({ namespace: "acme", policy: policyFor(other) });
  await publish({ ...upstream, key: other }, makePackage({ version: "1.2.0" }));
  const list = async () =>
    ((await (await fetch(`${at.origin}/v2/acme/norm/tags/list`)).json()) as { tags: string[] }).tags;
  expect(await list()).toEqual(["0.1.1", "1.1.0"]);
  // Older ones and prereleases come for those who name them.
  expect((await manifestOf(at, "2.0.0-rc.1")).status).toBe(200);
  expect(await list()).toEqual(["0.1.1", "1.1.0", "2.0.0-rc.1"]);
  const api = (await (await fetch(`${at.origin}/api/v1/kernels/acme/norm`)).json()) as { versions: unknown[] };
  expect(api.versions).toHaveLength(3);
});

test("statements that come to the upstream later come here, and own auditors may add theirs", async () => {
  const { upstream, at } = await start();
  const pack = makePackage();
  await publish(upstream, pack);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  const list = async () => {
    const answer = await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`);
    return ((await answer.json()) as { manifests: { digest: string }[] }).manifests.map(({ digest }) => digest);
  };
  expect(await list()).toHaveLength(1);
  const late = await attach(upstream, upstream.write, pack, statement(pack), undefined, newKey());
  at.clock.ahead += 301_000;
  expect(await list()).toContain(late);
  const own = await attach(at, at.write, pack, statement(pack), undefined, newKey());
  expect(await list()).toEqual(expect.arrayContaining([late, own]));
});

test("nothing is published here under a mirrored name", async () => {
  const { at } = await start();
  const pack = makePackage();
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_MIRROR_NAME"]);
  const byTag = fetch(`${at.origin}/v2/acme/norm/manifests/${pack.digest}?tag=1.0.0`, {
    method: "PUT",
    headers: { ...bearer(at.write), "content-type": mediaTypes.index },
    body: pack.index as Uint8Array<ArrayBuffer>,
  });
  expect(await refusal(byTag)).toEqual([403, "DENIED", "KL_MIRROR_NAME"]);
  const index = putManifest(at, at.write, "acme/norm", pack.digest, pack.index, mediaTypes.index);
  expect((await refusal(index))[2]).toBe("KL_REGISTRY_TOKEN_SCOPE");
});

test("what the upstream yanks or quarantines is yanked or withheld here; what is taken back comes back", async () => {
  const { upstream, at } = await start({ settings: { freshSeconds: 1 } });
  const packs = ["1.0.0", "1.1.0", "1.2.0"].map((version) => makePackage({ version, card: `# ${version}\n` }));
  for (const pack of packs) await publish(upstream, pack);
  const set = (version: string, state: "ok" | "yanked" | "quarantined") =>
    upstream.registry.setVersionState({ repository: "acme/norm", version, state, reason: "bad" });
  await set("1.2.0", "quarantined");
  await set("1.1.0", "yanked");
  expect(await refusal(manifestOf(at, "1.2.0"))).toEqual([403, "DENIED", "KL_REGISTRY_QUARANTINED"]);
  const state = async (version: string) =>
    ((await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/${version}`)).json()) as { state?: string }).state;
  expect((await manifestOf(at, "1.1.0")).status).toBe(200);
  expect(await state("1.1.0")).toBe("yanked");
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);

  await set("1.0.0", "quarantined");
  await set("1.1.0", "ok");
  expect(await refresh(at, {})).toMatchObject({ states: 2, problem: null });
  expect((await manifestOf(at, "1.0.0")).status).toBe(403);
  expect((await blobOf(at, digestOf(packs[0]!.variants[0]!.config))).status).toBe(403);
  expect(await state("1.1.0")).toBeUndefined();

  // An operator here has the last word, until the upstream says something new.
  await at.registry.setVersionState({ repository: "acme/norm", version: "1.0.0", state: "ok" });
  expect(await refresh(at, {})).toMatchObject({ states: 0 });
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("while the upstream is away, what is held is served, and what is not is told to wait", async () => {
  const { upstream, front, at } = await start();
  await publish(upstream, makePackage());
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`)).status).toBe(200);
  front.lie = (_, response) => {
    response.writeHead(500, { "content-type": "text/plain" }).end("no");
    return true;
  };
  at.clock.ahead += 301_000;
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  const list = await fetch(`${at.origin}/v2/acme/norm/tags/list`);
  expect([list.status, list.headers.get("kernlock-mirror")]).toEqual([200, "stale"]);
  at.clock.ahead += 61_000;
  const missing = await manifestOf(at, "3.0.0");
  expect(missing.headers.get("retry-after")).not.toBeNull();
  expect(await refusal(missing)).toEqual([503, "UNSUPPORTED", "KL_MIRROR_UNAVAILABLE"]);
  // It is left alone for as long as it asked for.
  front.lie = (_, response) => {
    response.writeHead(429, { "retry-after": "100" }).end();
    return true;
  };
  at.clock.ahead += 61_000;
  expect((await manifestOf(at, "3.0.0")).headers.get("retry-after")).toBe("100");
  const before = front.asked.length;
  expect((await manifestOf(at, "4.0.0")).status).toBe(503);
  expect(front.asked).toHaveLength(before);
  front.lie = undefined;
  at.clock.ahead += 101_000;
  expect((await manifestOf(at, "4.0.0")).status).toBe(404);
});

test("a version that the upstream replaces stays as it was, and is reported", async () => {
  const { upstream, front, at } = await start();
  const [pack, other] = [makePackage(), makePackage({ version: "1.0.1", card: "# other\n" })];
  await publish(upstream, pack);
  await publish(upstream, other);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  front.lie = (request, response, path) => {
    if (!path.endsWith("/manifests/1.0.0")) return false;
    response.writeHead(200, { "content-type": mediaTypes.index }).end(request.method === "HEAD" ? "" : other.index);
    return true;
  };
  expect(await refresh(at, { name: "acme/norm", version: "1.0.0" })).toMatchObject({
    packages: [{ changed: ["1.0.0"], admitted: [] }],
  });
  const index = await (await manifestOf(at, "1.0.0")).arrayBuffer();
  expect(digestOf(new Uint8Array(index))).toBe(pack.digest);
});

test("an upstream that goes back to an earlier day takes nothing back, and forgets no newer version here", async () => {
  const { upstream, front, at } = await start();
  for (const version of ["1.0.0", "1.1.0"]) await publish(upstream, makePackage({ version, card: `# ${version}\n` }));
  const list = async () =>
    ((await (await fetch(`${at.origin}/v2/acme/norm/tags/list`)).json()) as { tags: string[] }).tags;
  expect(await list()).toEqual(["1.1.0"]);
  front.lie = (_, response, path) => {
    if (path.endsWith("/tags/list")) {
      response.writeHead(200, { "content-type": "application/json" }).end('{"name":"acme/norm","tags":["1.0.0"]}');
      return true;
    }
    if (!path.includes("1.1.0")) return false;
    response.writeHead(404).end();
    return true;
  };
  at.clock.ahead += 301_000;
  expect(await list()).toEqual(["1.0.0", "1.1.0"]);
  expect((await manifestOf(at, "1.1.0")).status).toBe(200);
  const kernel = await fetch(`${at.origin}/api/v1/kernels/acme/norm`);
  expect(await kernel.json()).toMatchObject({ latest: "1.1.0" });
});

test("two registries that mirror each other answer from what they hold", async () => {
  const key = newKey();
  const first = await startMirror({ origin: "http://127.0.0.1:9", key });
  const second = await startMirror({ origin: first.origin, key });
  await first.registry.dropMirror("acme/*");
  await first.registry.declareMirror({ pattern: "acme/*", origin: second.origin });
  // The declaration is noticed within a second.
  await expect.poll(async () => (await manifestOf(first, "1.0.0")).status, { timeout: 20_000 }).toBe(404);
  expect((await manifestOf(second, "1.0.0")).status).toBe(404);
});

test("garbage collection treats it like anything else", async () => {
  const upstream = await startShelf();
  await put(upstream.shelf, makePackage({ version: "0.9.0", payload: Buffer.from("no machine code") }), upstream.key);
  await put(upstream.shelf, makePackage(), upstream.key);
  const at = await startMirror(upstream);
  const refused = await manifestOf(at, "0.9.0");
  expect(await refused.clone().text()).toContain("KL_ELF_");
  expect((await refusal(refused))[2]).toBe("KL_MIRROR_UPSTREAM");
  expect(stored(at).length).toBeGreaterThan(0);
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`)).status).toBe(200);
  await at.registry.collectGarbage({ graceSeconds: 0 });
  expect(stored(at)).not.toContain(digestOf("no machine code").slice(7));
  await at.registry.collectGarbage({ graceSeconds: 0 });
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  for (const bytes of makePackage().blobs) expect((await blobOf(at, digestOf(bytes))).status).toBe(200);
});

async function refresh(at: { origin: string; admin: string; mirror: string }, body: object): Promise<unknown> {
  const answer = await fetch(`${at.origin}/api/v1/mirrors/${at.mirror}/refresh`, {
    method: "POST",
    headers: { ...bearer(at.admin), "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  expect(answer.status).toBe(200);
  return answer.json();
}
