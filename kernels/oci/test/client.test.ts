import { createHash } from "node:crypto";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { digestOf, mediaTypes } from "../../format/index.ts";
import { RegistryClient, type RegistryClientOptions } from "../index.ts";
import { codeOf, memoryRegistry, sampleVersion, serve, type TestServer } from "./material.ts";

const repo = "kernlock/sample";
const token = "kl_secret_0123456789";
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(listener: RequestListener, options: Partial<RegistryClientOptions> = {}) {
  const server = await serve(listener);
  const client = new RegistryClient({ origin: server.origin, ...options });
  closing.push(
    () => server.close(),
    () => client.close(),
  );
  return { server, client };
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test("pushes and pulls a whole version", async () => {
  const { server, client } = await start(memoryRegistry().listener, { token });
  const { index, manifest, config, payload, card } = sampleVersion();
  for (const blob of [config, payload, card]) await client.putBlob(repo, digestOf(blob), blob);
  await client.putManifest(repo, digestOf(manifest), manifest, mediaTypes.manifest);
  expect(await client.putManifest(repo, "1.0.0", index, mediaTypes.index)).toBe(digestOf(index));

  const fetched = await client.getManifest(repo, "1.0.0");
  expect(fetched).toMatchObject({ digest: digestOf(index), mediaType: mediaTypes.index });
  expect(Buffer.from(manifest).equals((await client.getManifest(repo, digestOf(manifest))).bytes)).toBe(true);
  expect((await client.getBlob(repo, digestOf(payload), { size: payload.length })).toString()).toBe(payload.toString());
  expect(await client.hasBlob(repo, digestOf(payload))).toBe(true);
  expect(await client.hasBlob(repo, digestOf("no"))).toBe(false);
  expect(server.requests.every((r) => r.headers.authorization === `Bearer ${token}`)).toBe(true);

  // A second push sends nothing again.
  const before = server.requests.length;
  await client.putBlob(repo, digestOf(payload), payload);
  expect(server.requests.slice(before).map((r) => r.method)).toEqual(["HEAD"]);
});

test("uploads a stream of known size", async () => {
  const { client } = await start(memoryRegistry().listener);
  const bytes = Buffer.alloc(300_000, 7);
  const stream = (async function* () {
    for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
  })();
  await client.putBlob(repo, digestOf(bytes), { stream, size: bytes.length });
  expect(bytes.equals(await client.getBlob(repo, digestOf(bytes)))).toBe(true);
});

describe("a registry that lies", () => {
  const good = Buffer.from("the right bytes");
  const digest = digestOf(good);
  const answer =
    (status: number, headers: Record<string, string>, body: string | Buffer = "") =>
    (_: IncomingMessage, response: ServerResponse) =>
      void response.writeHead(status, headers).end(body);
  const manifestType = { "content-type": mediaTypes.manifest };

  test.each<[string, string, RequestListener, (client: RegistryClient) => Promise<unknown>]>([
    [
      "other bytes under a manifest's digest",
      "KL_OCI_DIGEST_MISMATCH",
      answer(200, manifestType, "{}"),
      (c) => c.getManifest(repo, digest),
    ],
    [
      "a digest header that lies",
      "KL_OCI_DIGEST_MISMATCH",
      answer(200, { ...manifestType, "docker-content-digest": digest }, "{}"),
      (c) => c.getManifest(repo, "1.0.0"),
    ],
    [
      "other bytes under a blob's digest",
      "KL_OCI_DIGEST_MISMATCH",
      answer(200, {}, "the wrong bytes"),
      (c) => c.getBlob(repo, digest),
    ],
    [
      "more bytes than declared",
      "KL_OCI_SIZE",
      answer(200, { "transfer-encoding": "chunked" }, "the right bytes and more"),
      (c) => c.getBlob(repo, digest, { size: good.length }),
    ],
    [
      "fewer bytes than declared",
      "KL_OCI_SIZE",
      answer(200, { "transfer-encoding": "chunked" }, "the right"),
      (c) => c.getBlob(repo, digest, { size: good.length }),
    ],
    [
      "another length than declared",
      "KL_OCI_SIZE",
      answer(200, { "content-length": "5" }, "thing"),
      (c) => c.getBlob(repo, digest, { size: good.length }),
    ],
    [
      "more than fits",
      "KL_OCI_TOO_LARGE",
      answer(200, {}, Buffer.alloc(100_000)),
      (c) => c.getBlob(repo, digest, { maxBytes: 1000 }),
    ],
    [
      "a manifest without end",
      "KL_OCI_TOO_LARGE",
      answer(200, manifestType, Buffer.alloc(5 << 20, 32)),
      (c) => c.getManifest(repo, "1.0.0"),
    ],
    [
      "a web page",
      "KL_OCI_MEDIA_TYPE",
      answer(200, { "content-type": "text/html" }, "<html>"),
      (c) => c.getManifest(repo, "1.0.0"),
    ],
    [
      "a compressed answer",
      "KL_OCI_PROTOCOL",
      answer(200, { "content-encoding": "gzip" }, "x"),
      (c) => c.getBlob(repo, digest),
    ],
    ["tags that are no tags", "KL_OCI_PROTOCOL", answer(200, {}, '{"tags":["../../etc"]}'), (c) => c.tags(repo)],
    ["tags with a key twice", "KL_JSON_DUPLICATE_KEY", answer(200, {}, '{"tags":[],"tags":[]}'), (c) => c.tags(repo)],
    [
      "pages elsewhere",
      "KL_OCI_PROTOCOL",
      answer(200, { link: '<http://127.0.0.1:1/v2/x>; rel="next"' }, '{"tags":[]}'),
      (c) => c.tags(repo),
    ],
    [
      "pages without end",
      "KL_OCI_TOO_LARGE",
      answer(200, { link: '</again>; rel="next"' }, '{"tags":[]}'),
      (c) => c.tags(repo),
    ],
    ["redirects without end", "KL_OCI_PROTOCOL", answer(307, { location: "/again" }), (c) => c.getBlob(repo, digest)],
    [
      "a redirect to a file",
      "KL_OCI_PROTOCOL",
      answer(307, { location: "file:///etc/passwd" }),
      (c) => c.getBlob(repo, digest),
    ],
    [
      "another digest after a push",
      "KL_OCI_DIGEST_MISMATCH",
      answer(201, { "docker-content-digest": digest }),
      (c) => c.putManifest(repo, "1.0.0", Buffer.from("{}"), mediaTypes.index),
    ],
  ])("%s: %s", async (_, code, listener, ask) => {
    const { client } = await start(listener);
    expect(await codeOf(() => ask(client))).toBe(code);
  });

  test("a range other than asked for", async () => {
    const { client } = await start(answer(206, { "content-range": "bytes 0-5/6" }, "abcdef"));
    expect(await codeOf(() => collect(client.blobStream(repo, digest, { offset: 3 })))).toBe("KL_OCI_PROTOCOL");
  });
});

describe("refusals", () => {
  const refusing =
    (status: number, body = ""): RequestListener =>
    (_, response) =>
      void response.writeHead(status).end(body);

  test.each([
    [401, "KL_OCI_AUTH"],
    [403, "KL_OCI_AUTH"],
    [404, "KL_OCI_NOT_FOUND"],
    [429, "KL_OCI_REFUSED"],
    [500, "KL_OCI_REFUSED"],
  ])("status %i is %s", async (status, code) => {
    const { client } = await start(refusing(status, "<html>sorry</html>"));
    expect(await codeOf(() => client.getManifest(repo, "1.0.0"))).toBe(code);
  });

  test("carry the registry's own code and words, made plain", async () => {
    const errors = [
      { code: "DENIED", message: "no\u001b[31m red\ntext", detail: { code: "KL_JSON_DEPTH", remedy: "Try less." } },
    ];
    const { client } = await start(refusing(409, JSON.stringify({ errors })));
    const error = await client.putManifest(repo, "1.0.0", Buffer.from("{}"), mediaTypes.index).catch((e) => e);
    expect(error).toMatchObject({ code: "KL_JSON_DEPTH", remedy: "Try less.", details: { status: 409 } });
    expect(error.message).toContain("no [31m red text");
  });

  test("an unknown code of the registry's stays its own", async () => {
    const errors = [{ code: "DENIED", message: "no", detail: { code: "KL_NOT_A_CODE" } }];
    const { client } = await start(refusing(409, JSON.stringify({ errors })));
    expect(await codeOf(() => client.getBlob(repo, digestOf("x")))).toBe("KL_OCI_REFUSED");
  });

  test("nobody there", async () => {
    const server = await serve(() => {});
    await server.close();
    const client = new RegistryClient({ origin: server.origin, token });
    const error = await client.tags(repo).catch((e) => e);
    expect(error.code).toBe("KL_OCI_CONNECT");
    expect(`${error.message} ${error.cause} ${JSON.stringify(error)}`).not.toContain(token);
    await client.close();
  });

  test("a registry that never answers", async () => {
    const { client } = await start(() => {}, { timeoutMs: 300 });
    expect(await codeOf(() => client.tags(repo))).toBe("KL_OCI_TIMEOUT");
  });

  test("a caller that stops", async () => {
    const { client } = await start((_, response) => void response.writeHead(200).write("a"));
    const stop = new AbortController();
    const reading = collect(client.blobStream(repo, digestOf("x"), { signal: stop.signal }));
    setTimeout(() => stop.abort(), 50);
    expect(await codeOf(() => reading)).toBe("KL_OCI_ABORTED");
  });
});

describe("resuming", () => {
  const bytes = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 7) & 255));
  const digest = digestOf(bytes);
  /** Sends at most 20,000 bytes a request, then cuts the connection. */
  const cutting =
    (ranges: boolean): RequestListener =>
    (request, response) => {
      const start = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0) : 0;
      const headers = { "content-length": String(bytes.length - start) };
      const range = { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
      response.writeHead(start > 0 ? 206 : 200, start > 0 ? { ...headers, ...range } : headers);
      const part = bytes.subarray(start, start + (ranges ? 20_000 : 20_000 + servedWhole++ * 20_000));
      response.write(part, () =>
        start + part.length < bytes.length ? setTimeout(() => response.destroy(), 20) : response.end(),
      );
    };
  let servedWhole = 0;

  test("a cut download goes on where it stopped", async () => {
    const { server, client } = await start(cutting(true));
    expect((await collect(client.blobStream(repo, digest, { size: bytes.length }))).equals(bytes)).toBe(true);
    expect(server.requests.map((r) => r.headers.range)).toEqual([undefined, "bytes=20000-", "bytes=40000-"]);
  });

  test("also where the registry knows no ranges", async () => {
    servedWhole = 0;
    const { server, client } = await start(cutting(false));
    expect((await collect(client.blobStream(repo, digest, { size: bytes.length }))).equals(bytes)).toBe(true);
    expect(server.requests.length).toBe(3);
  });

  test("gives up when nothing comes any more", async () => {
    const { server, client } = await start((_, response) => {
      response.writeHead(200, { "content-length": "50000" });
      response.flushHeaders();
      setTimeout(() => response.destroy(), 10);
    });
    expect(await codeOf(() => client.getBlob(repo, digest, { size: bytes.length }))).toBe("KL_OCI_CONNECT");
    expect(server.requests.length).toBe(4);
  });

  test("a caller goes on from its own offset, with its own hash", async () => {
    const { client } = await start(cutting(true));
    const hash = createHash("sha256").update(bytes.subarray(0, 30_000));
    const rest = await collect(client.blobStream(repo, digest, { offset: 30_000, size: bytes.length, hash }));
    expect(rest.equals(bytes.subarray(30_000))).toBe(true);
    const wrong = createHash("sha256").update("other");
    expect(
      await codeOf(() => collect(client.blobStream(repo, digest, { offset: 30_000, size: bytes.length, hash: wrong }))),
    ).toBe("KL_OCI_DIGEST_MISMATCH");
    const whole = createHash("sha256").update(bytes);
    expect(
      (await collect(client.blobStream(repo, digest, { offset: bytes.length, size: bytes.length, hash: whole })))
        .length,
    ).toBe(0);
  });
});

describe("the token", () => {
  test("does not follow a redirect to another host", async () => {
    const bytes = Buffer.from("stored elsewhere");
    let storage: TestServer | undefined;
    const { server, client } = await start(
      (_, response) => void response.writeHead(307, { location: `${storage?.origin}/x` }).end(),
      { token },
    );
    storage = await serve((_, response) => void response.end(bytes));
    closing.push(() => storage!.close());
    expect((await client.getBlob(repo, digestOf(bytes))).toString()).toBe("stored elsewhere");
    expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${token}`);
    expect(storage.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("does not follow an upload address to another host", async () => {
    let storage: TestServer | undefined;
    const { client } = await start(
      (request, response) =>
        void (request.method === "HEAD"
          ? response.writeHead(404).end()
          : response.writeHead(202, { location: `${storage?.origin}/up?state=1` }).end()),
      { token },
    );
    storage = await serve((request, response) => void request.resume().on("end", () => response.writeHead(201).end()));
    closing.push(() => storage!.close());
    await client.putBlob(repo, digestOf("x"), Buffer.from("x"));
    expect(storage.requests[0]).toMatchObject({
      method: "PUT",
      url: `/up?state=1&digest=${encodeURIComponent(digestOf("x"))}`,
    });
    expect(storage.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("does not travel in clear text, nor break a header", () => {
    const code = (options: RegistryClientOptions) => codeOf(() => new RegistryClient(options));
    return Promise.all([
      expect(code({ origin: "http://registry.example", token })).resolves.toBe("KL_OCI_ORIGIN"),
      expect(code({ origin: "http://127.0.0.1.evil.example", token })).resolves.toBe("KL_OCI_ORIGIN"),
      expect(code({ origin: "https://registry.example", token })).resolves.toBe("accepted"),
      expect(code({ origin: "https://registry.example", token: "a\r\nx: y" })).resolves.toBe("KL_OCI_AUTH"),
    ]);
  });
});

test.each([
  "registry.example",
  "ftp://registry.example",
  "https://user:pw@registry.example",
  "https://registry.example/path",
  "",
])("no origin: %j", async (origin) => {
  expect(await codeOf(() => new RegistryClient({ origin }))).toBe("KL_OCI_ORIGIN");
});

test("names that would leave the repository are refused before anything is sent", async () => {
  const { server, client } = await start(() => {});
  expect(await codeOf(() => client.getManifest("../x", "1.0.0"))).toBe("KL_FORMAT_NAME");
  expect(await codeOf(() => client.getManifest(repo, "../../x"))).toBe("KL_OCI_NOT_FOUND");
  expect(await codeOf(() => client.getBlob(repo, "sha256:../../x"))).toBe("KL_FORMAT_DIGEST");
  expect(server.requests).toEqual([]);
});

test("referrers are filtered here too", async () => {
  const manifests = [
    { mediaType: mediaTypes.manifest, digest: digestOf("a"), size: 1, artifactType: mediaTypes.bundle },
    { mediaType: mediaTypes.manifest, digest: digestOf("b"), size: 1, artifactType: "application/other" },
  ];
  const { client } = await start(
    (_, response) => void response.end(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests })),
  );
  expect((await client.referrers(repo, digestOf("x"))).length).toBe(2);
  expect((await client.referrers(repo, digestOf("x"), mediaTypes.bundle)).map((d) => d.digest)).toEqual([
    digestOf("a"),
  ]);
});
