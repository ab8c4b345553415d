/** Upstreams that lie, stall, wander off or never end: nothing of it is served or kept. */
import { execFileSync } from "node:child_process";
import type { lookup } from "node:dns";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { makePackage, policyFor, refusal, stored, temporaryFolder, unfinished } from "./material.ts";
import { blobOf, type Lie, manifestOf, put, refer, startFront, startMirror, startShelf } from "./mirror-material.ts";

const pack = makePackage();
const payload = digestOf(pack.payload);
const variant = digestOf(pack.variants[0]!.manifest);

async function start(options: Parameters<typeof startMirror>[1] = {}) {
  const upstream = await startShelf();
  await put(upstream.shelf, pack, upstream.key);
  return { upstream, at: await startMirror(upstream, options) };
}

type At = Awaited<ReturnType<typeof startMirror>>;

/** Nothing of the version can be had, and no file of an unfinished download is left. */
async function expectNothing(at: At): Promise<void> {
  for (const reference of [pack.digest, variant]) expect((await manifestOf(at, reference)).status).not.toBe(200);
  for (const bytes of pack.blobs) expect((await blobOf(at, digestOf(bytes))).status).toBe(404);
  expect((await at.registry.auditAfter(0, 1000)).filter((row) => row.action === "version.publish")).toEqual([]);
  await expect.poll(() => unfinished(at), { timeout: 20_000 }).toEqual([]);
}

const on =
  (text: string, lie: Lie): Lie =>
  (request, response, path) =>
    path.includes(text) ? lie(request, response, path) : false;
const answer =
  (status: number, headers: Record<string, string | number>, body: string | Uint8Array = ""): Lie =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
    return true;
  };
/** A body that goes on until the other side has had enough. */
const endless =
  (headers: Record<string, string>, piece: string): Lie =>
  (_, response) => {
    response.writeHead(200, headers);
    const more = () => {
      while (!response.destroyed && response.write(piece));
      if (!response.destroyed) response.once("drain", more);
    };
    more();
    return true;
  };
/** A byte now and then. */
const dripping =
  (headers: Record<string, string | number>): Lie =>
  (_, response) => {
    response.writeHead(200, headers);
    const timer = setInterval(() => response.write("x"), 100);
    response.on("close", () => clearInterval(timer));
    return true;
  };
const other = Buffer.alloc(pack.payload.length, 7);
const anyManifest = { "content-type": mediaTypes.manifest };
const index = { "content-type": mediaTypes.index };
const crowd = JSON.stringify({
  schemaVersion: 2,
  mediaType: mediaTypes.index,
  manifests: Array.from({ length: 100 }, (_, i) => ({
    mediaType: mediaTypes.manifest,
    digest: digestOf(`${i}`),
    size: 10,
    artifactType: mediaTypes.bundle,
  })),
});

describe("an upstream that lies", () => {
  test.each<[string, Lie, code: string, status: number]>([
    ["other bytes of the same length", on(payload, answer(200, {}, other)), "KL_MIRROR_UPSTREAM", 502],
    ["a shorter file", on(payload, answer(200, {}, pack.payload.subarray(1))), "KL_MIRROR_UPSTREAM", 502],
    ["a longer file", on(payload, answer(200, {}, Buffer.concat([pack.payload, other]))), "KL_MIRROR_UPSTREAM", 502],
    [
      "a length that is not the file's",
      on(payload, answer(200, { "content-length": 3 }, "abc")),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    ["a file without end", on(payload, endless({}, "x".repeat(65_536))), "KL_MIRROR_UPSTREAM", 502],
    [
      "a compressed file",
      on(payload, answer(200, { "content-encoding": "gzip" }, gzipSync(Buffer.alloc(50 << 20)))),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "a compressed manifest",
      on("/manifests/1.0.0", answer(200, { ...index, "content-encoding": "gzip" }, gzipSync(pack.index))),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    ["a manifest without end", on("/manifests/1.0.0", endless(index, " ".repeat(65_536))), "KL_MIRROR_UPSTREAM", 502],
    [
      "a giant manifest",
      on(`/manifests/${variant}`, answer(200, anyManifest, Buffer.alloc(5 << 20, 32))),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "another manifest than the index names",
      on(`/manifests/${variant}`, answer(200, anyManifest, makePackage({ card: "# x\n" }).variants[0]!.manifest)),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "another version under the tag",
      on("/manifests/1.0.0", answer(200, index, makePackage({ version: "1.0.1" }).index)),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "another package under the name",
      on("/manifests/1.0.0", answer(200, index, makePackage({ name: "acme/other" }).index)),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "a variant that is not there",
      on(`/manifests/${variant}`, answer(404, { "content-type": "application/json" }, "{}")),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    ["a file that is not there", on(payload, answer(404, {})), "KL_MIRROR_UPSTREAM", 502],
    [
      "a web page",
      on("/manifests/1.0.0", answer(200, { "content-type": "text/html" }, "<p>")),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "more statements than anybody reads",
      on(`/referrers/${pack.digest}`, answer(200, index, crowd)),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "a list of statements without end",
      on("/referrers/", (_, response, path) => {
        const list = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}';
        response.writeHead(200, { ...index, link: `<${path}?n=1>; rel="next"` }).end(list);
        return true;
      }),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "statements of which one is missing",
      on("/referrers/", (_, response) => {
        const one = JSON.parse(crowd);
        response.writeHead(200, index).end(JSON.stringify({ ...one, manifests: one.manifests.slice(0, 1) }));
        return true;
      }),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    ["no statements at all", on("/referrers/", answer(404, {})), "KL_VERDICT_MISSING", 403],
    [
      "a redirect to the metadata of a cloud",
      on(payload, answer(307, { location: "http://169.254.169.254/latest/meta-data/" })),
      "KL_MIRROR_ADDRESS",
      502,
    ],
    [
      "a redirect to a port of this host",
      on(payload, answer(307, { location: "http://127.0.0.1:1/x" })),
      "KL_MIRROR_ADDRESS",
      502,
    ],
    [
      "a redirect to IPv4 inside of IPv6",
      on(payload, answer(307, { location: "http://[::ffff:127.0.0.1]:1/x" })),
      "KL_MIRROR_ADDRESS",
      502,
    ],
    ["a redirect to a file", on(payload, answer(307, { location: "file:///etc/passwd" })), "KL_MIRROR_UPSTREAM", 502],
    [
      "redirects without end",
      on(payload, (_, r, path) => answer(307, { location: path })(_, r, path)),
      "KL_MIRROR_UPSTREAM",
      502,
    ],
    [
      "a token route elsewhere",
      answer(401, { "www-authenticate": 'Bearer realm="http://192.0.2.1/token",service="x"' }),
      "KL_MIRROR_ADDRESS",
      502,
    ],
    [
      "words that name its secrets",
      answer(403, { "content-type": "application/json" }, '{"errors":[{"code":"DENIED","message":"token s3cret"}]}'),
      "KL_MIRROR_DENIED",
      502,
    ],
  ])("%s", async (_, lie, code, status) => {
    const { upstream, at } = await start();
    upstream.lie = lie;
    const refused = await manifestOf(at, "1.0.0");
    const text = await refused.clone().text();
    expect(await refusal(refused)).toEqual([status, expect.any(String), code]);
    expect(text).not.toContain("s3cret");
    // It is remembered, and not asked for by everybody anew.
    const before = upstream.asked.length;
    expect((await manifestOf(at, "1.0.0")).status).toBe(status);
    expect(upstream.asked).toHaveLength(before);
    await expectNothing(at);
    // The upstream mends its ways, and an operator says so or the memory ends.
    upstream.lie = undefined;
    at.clock.ahead += 601_000;
    expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  });
});

describe("an upstream that stalls", () => {
  test.each<[string, Lie]>([
    ["never answers", on("/manifests/1.0.0", () => true)],
    ["drips a manifest", on("/manifests/1.0.0", dripping(index))],
    ["drips a list", on("/referrers/", dripping(index))],
    ["drips a file", on(payload, dripping({ "content-length": pack.payload.length }))],
    ["hangs up in a manifest", on("/manifests/1.0.0", (_, r) => void r.destroy() === undefined)],
    ["falls over", answer(500, {})],
    ["has no gateway", on(payload, answer(502, {}))],
  ])("%s", async (_, lie) => {
    const { upstream, at } = await start({ mirrors: { timeoutMs: 3000, documentMs: 3000, windowMs: 3000 } });
    upstream.lie = lie;
    const refused = await manifestOf(at, "1.0.0");
    expect(refused.headers.get("retry-after")).not.toBeNull();
    expect(await refusal(refused)).toEqual([503, "UNSUPPORTED", "KL_MIRROR_UNAVAILABLE"]);
    upstream.lie = undefined;
    // On a busy machine the honest answer may take too long as well.
    const again = () => {
      at.clock.ahead += 61_000;
      return manifestOf(at, "1.0.0");
    };
    await expect.poll(async () => (await again()).status, { timeout: 40_000 }).toBe(200);
  });

  test("a cut download goes on where it stopped", async () => {
    const { upstream, at } = await start();
    const ranges: (string | undefined)[] = [];
    upstream.lie = on(payload, (request, response) => {
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      ranges.push(request.headers.range);
      const rest = pack.payload.subarray(from);
      response.writeHead(from === 0 ? 200 : 206, {
        "content-length": rest.length,
        ...(from === 0 ? {} : { "content-range": `bytes ${from}-${pack.payload.length - 1}/${pack.payload.length}` }),
      });
      if (ranges.length > 2) response.end(rest);
      else response.write(rest.subarray(0, 1000), () => response.destroy());
      return true;
    });
    expect((await manifestOf(at, "1.0.0")).status).toBe(200);
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=\d+-$/), expect.stringMatching(/^bytes=\d+-$/)]);
    expect(Buffer.from(await (await blobOf(at, payload)).arrayBuffer()).equals(pack.payload)).toBe(true);
  });

  test("who asks is told to come back, and finds it then", async () => {
    const { upstream, at } = await start({ mirrors: { patienceMs: 50, timeoutMs: 60_000, windowMs: 60_000 } });
    let go: () => void = () => {};
    const gate = new Promise<void>((open) => {
      go = open;
    });
    upstream.lie = on(payload, async () => {
      await gate;
      return false;
    });
    const waiting = await manifestOf(at, "1.0.0");
    expect(waiting.headers.get("retry-after")).toBe("5");
    expect(await refusal(waiting)).toEqual([503, "UNSUPPORTED", "KL_MIRROR_FETCHING"]);
    go();
    await expect.poll(async () => (await manifestOf(at, "1.0.0")).status, { timeout: 20_000 }).toBe(200);
    expect(upstream.count(payload)).toBe(1);
  });

  test("more different questions than are answered at a time are turned away", async () => {
    const { upstream, at } = await start({ mirrors: { flights: 2, patienceMs: 100, timeoutMs: 60_000 } });
    upstream.lie = on("/manifests/", () => true);
    const wanted = ["1.0.1", "1.0.2", "1.0.3"];
    const codes = await Promise.all(wanted.map(async (version) => (await refusal(manifestOf(at, version)))[2]));
    expect(codes.sort()).toEqual(["KL_MIRROR_BUSY", "KL_MIRROR_FETCHING", "KL_MIRROR_FETCHING"]);
  });
});

test("a manifest that changes between its tag and its digest is not taken", async () => {
  const { upstream, at } = await start();
  const swapped = makePackage({ card: "# swapped\n" });
  await put(upstream.shelf, swapped, upstream.key);
  // The tag names `swapped` now; somebody's lock pins `pack`.
  const pinned = await manifestOf(at, pack.digest);
  expect(await refusal(pinned)).toEqual([502, "UNSUPPORTED", "KL_MIRROR_UPSTREAM"]);
  expect((await at.registry.auditAfter(0, 1000)).filter((row) => row.action === "version.publish")).toEqual([]);
});

test("a bundle about something else counts for nothing, and keeps nothing out", async () => {
  const { upstream, at } = await start();
  const { createBundle } = await import("@kernlock/policies/trust");
  const { statement, newKey } = await import("./material.ts");
  const about = makePackage({ version: "2.0.0" });
  await refer(upstream.shelf, pack.index, mediaTypes.index, Buffer.from("no bundle"));
  await refer(upstream.shelf, pack.index, mediaTypes.index, await createBundle(statement(about), newKey()));
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  const list = await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`);
  expect(((await list.json()) as { manifests: unknown[] }).manifests).toHaveLength(1);
});

describe("names that lead elsewhere", () => {
  const answers = (...addresses: string[]): typeof lookup =>
    ((_host: string, _options: object, callback: (error: null, found: object[]) => void) =>
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
      )) as unknown as typeof lookup;

  test.each([
    ["169.254.169.254"],
    ["127.0.0.1"],
    ["10.0.0.1"],
    ["100.64.0.1"],
    ["192.168.1.1"],
    ["0.0.0.0"],
    ["::1"],
    ["fd00::1"],
    ["fe80::1"],
    ["::ffff:169.254.169.254"],
    ["64:ff9b::7f00:1"],
  ])("to %s are not asked", async (address) => {
    const upstream = await startShelf();
    const port = new URL(upstream.origin).port;
    const named = { origin: `http://registry.example:${port}`, key: upstream.key };
    const at = await startMirror(named, { mirrors: { lookup: answers(address) } });
    expect(await refusal(manifestOf(at, "1.0.0"))).toEqual([502, "UNSUPPORTED", "KL_MIRROR_ADDRESS"]);
    expect(upstream.asked).toEqual([]);
  });

  test("to private addresses are asked where the operator said so, to the link never", async () => {
    const upstream = await startShelf();
    await put(upstream.shelf, pack, upstream.key);
    const port = new URL(upstream.origin).port;
    const named = { origin: `http://registry.example:${port}`, key: upstream.key };
    const settings = { privateAddresses: true };
    const at = await startMirror(named, { settings, mirrors: { lookup: answers("169.254.169.254", "127.0.0.1") } });
    expect((await manifestOf(at, "1.0.0")).status).toBe(200);
    const link = await startMirror(named, { settings, mirrors: { lookup: answers("169.254.169.254") } });
    expect((await refusal(manifestOf(link, "1.0.0")))[2]).toBe("KL_MIRROR_ADDRESS");
  });

  test("a host that changes its address after the declaration leads nowhere new", async () => {
    const upstream = await startShelf();
    await put(upstream.shelf, pack, upstream.key);
    let address = "192.0.2.1";
    const rebinding = ((host: string, options: object, callback: never) =>
      answers(address)(host, options as never, callback)) as unknown as typeof lookup;
    const named = { origin: `http://registry.example:${new URL(upstream.origin).port}`, key: upstream.key };
    const at = await startMirror(named, { mirrors: { lookup: rebinding, timeoutMs: 500 } });
    address = "127.0.0.1";
    expect((await refusal(manifestOf(at, "1.0.0")))[2]).toBe("KL_MIRROR_ADDRESS");
    expect(upstream.asked).toEqual([]);
  });
});

test("storage on a host that the operator names is fetched from, without the token", async () => {
  const { upstream, at } = await (async () => {
    const upstream = await startShelf();
    await put(upstream.shelf, pack, upstream.key);
    const storage = await startFront((_, response) => void response.writeHead(200).end(pack.payload));
    upstream.lie = on(payload, answer(307, { location: `${storage.origin}/signed?x=1` }));
    process.env.KERNLOCK_UPSTREAM_TEST = "s3cret-token";
    const settings = { hosts: [new URL(storage.origin).host], credentials: "env:KERNLOCK_UPSTREAM_TEST" };
    return { upstream: Object.assign(upstream, { storage }), at: await startMirror(upstream, { settings }) };
  })();
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  expect(upstream.asked[0]!.headers.authorization).toBe("Bearer s3cret-token");
  expect(upstream.storage.asked.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  expect(stored(at)).toContain(payload.slice(7));
  // Not by any way that a client has.
  const audit = JSON.stringify(await at.registry.auditAfter(0, 100));
  expect(audit).not.toContain("s3cret");
});

test("a token route is answered with the credentials, its token goes with what it is for", async () => {
  const upstream = await startShelf();
  await put(upstream.shelf, pack, upstream.key);
  const seen: (string | undefined)[] = [];
  upstream.lie = (request, response, path) => {
    const { authorization } = request.headers;
    if (path === "/token") {
      seen.push(authorization, request.url);
      response.writeHead(200, { "content-type": "application/json" }).end('{"token":"short-lived","expires_in":300}');
      return true;
    }
    if (!path.startsWith("/v2/") || authorization === "Bearer short-lived") return false;
    const realm = `Bearer realm="${upstream.origin}/token",service="shelf",scope="repository:acme/norm:pull"`;
    response.writeHead(401, { "www-authenticate": realm }).end();
    return true;
  };
  process.env.KERNLOCK_UPSTREAM_PAIR = "user:pass word".replace(" ", "-");
  const at = await startMirror(upstream, { settings: { credentials: "env:KERNLOCK_UPSTREAM_PAIR" } });
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  expect(seen).toEqual([
    `Basic ${Buffer.from("user:pass-word").toString("base64")}`,
    "/token?service=shelf&scope=repository%3Aacme%2Fnorm%3Apull",
  ]);
});

test("a private authority is trusted where the operator names it, and https is not left", async () => {
  const folder = temporaryFolder();
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=upstream", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
  const files = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", key, "-out", cert];
  execFileSync("openssl", ["req", "-x509", ...files, ...subject], { stdio: "ignore" });
  const upstream = await startShelf({ key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") });
  await put(upstream.shelf, pack, upstream.key);
  const stranger = await startMirror(upstream);
  expect((await refusal(manifestOf(stranger, "1.0.0")))[2]).toBe("KL_MIRROR_UNAVAILABLE");
  const plain = await startFront((_, response) => void response.writeHead(200).end(pack.payload));
  const at = await startMirror(upstream, { settings: { ca: cert, hosts: [new URL(plain.origin).host] } });
  upstream.lie = on(payload, answer(307, { location: plain.origin }));
  expect((await refusal(manifestOf(at, "1.0.0")))[2]).toBe("KL_MIRROR_UPSTREAM");
  expect(plain.asked).toEqual([]);
  upstream.lie = undefined;
  at.clock.ahead += 601_000;
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("a policy here that trusts nobody of theirs is not softened by anything they send", async () => {
  const { newKey } = await import("./material.ts");
  const { at } = await start({ policy: policyFor(newKey()) });
  expect((await refusal(manifestOf(at, "1.0.0")))[0]).toBe(403);
  await expectNothing(at);
});
