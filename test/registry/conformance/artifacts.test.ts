/**
 * The essential checks of the public OCI conformance suite, as tests of our own: in a namespace of artifacts, on both
 * storages. `npm run conformance:oci` runs the suite itself.
 */
import { randomBytes } from "node:crypto";
import { createRegistry } from "@kernlock/registry-server";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { contentDigest } from "../../../registry-server/store/digests.ts";
import { type Driver, scaleOut, sqliteFolder, title } from "../drivers.ts";

const types = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  empty: "application/vnd.oci.empty.v1+json",
} as const;

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver);
  });
}

function suite(driver: Driver): void {
  async function start(deletion: "allowed" | "never" = "allowed") {
    const registry = await createRegistry(await driver.open());
    onTestFinished(() => registry.close(1));
    await registry.createNamespace({ name: "free", kind: "artifacts", deletion });
    const { token } = await registry.createToken({ namespace: "free", role: "publisher" });
    const { origin } = await registry.listen();
    const call = (method: string, path: string, body?: Uint8Array | string, headers: Record<string, string> = {}) =>
      fetch(path.startsWith("http") ? path : `${origin}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        ...(body === undefined ? {} : { body: body as string }),
      });
    const status = async (...args: Parameters<typeof call>) => (await call(...args)).status;
    const put = async (bytes: Buffer, repo = "free/one", digest: string = contentDigest(bytes)) => {
      expect(await status("POST", `/v2/${repo}/blobs/uploads/?digest=${digest}`, bytes)).toBe(201);
      return { mediaType: "application/octet-stream", digest, size: bytes.byteLength };
    };
    const config = async (repo = "free/one") => ({ ...(await put(Buffer.from("{}"), repo)), mediaType: types.empty });
    const image = async (more: object = {}) =>
      Buffer.from(
        JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, config: await config(), layers: [], ...more }),
      );
    const tag = (bytes: Buffer, reference: string, type: string = types.manifest) =>
      call("PUT", `/v2/free/one/manifests/${reference}`, bytes, { "content-type": type });
    return { call, status, put, config, image, tag, origin, registry };
  }
  const code = async (answer: Response) => ((await answer.json()) as { errors: { code: string }[] }).errors[0]?.code;

  test("an empty repository has no tags and no referrers", async () => {
    const at = await start();
    expect(await (await at.call("GET", "/v2/free/one/tags/list")).json()).toEqual({ name: "free/one", tags: [] });
    const referrers = await at.call("GET", `/v2/free/one/referrers/${contentDigest(Buffer.from("x"))}`);
    expect([referrers.status, referrers.headers.get("content-type")]).toEqual([200, types.index]);
  });

  test.each(["sha256", "sha512"] as const)("blobs by %s: one request, two, chunks, a stream", async (algorithm) => {
    const at = await start();
    const bytes = randomBytes(300_000);
    const digest = contentDigest(bytes, algorithm);
    const begin = async () => (await at.call("POST", "/v2/free/one/blobs/uploads/")).headers.get("location")!;
    const there = async () => {
      const head = await at.call("HEAD", `/v2/free/one/blobs/${digest}`);
      expect([head.status, head.headers.get("content-length")]).toEqual([200, "300000"]);
      const got = Buffer.from(await (await at.call("GET", `/v2/free/one/blobs/${digest}`)).arrayBuffer());
      expect(got.equals(bytes)).toBe(true);
      expect(await at.status("DELETE", `/v2/free/one/blobs/${digest}`)).toBe(202);
      expect(await at.status("HEAD", `/v2/free/one/blobs/${digest}`)).toBe(404);
    };
    await at.put(bytes, "free/one", digest);
    await there();
    expect(await at.status("PUT", `${await begin()}?digest=${digest}`, bytes)).toBe(201);
    await there();
    const chunked = await begin();
    for (let start = 0; start < bytes.byteLength; start += 100_000) {
      const end = Math.min(start + 100_000, bytes.byteLength);
      const answer = await at.call("PATCH", chunked, bytes.subarray(start, end), {
        "content-range": `${start}-${end - 1}`,
      });
      expect([answer.status, answer.headers.get("range")]).toEqual([202, `0-${end - 1}`]);
    }
    expect(await at.status("PUT", `${chunked}?digest=${digest}`)).toBe(201);
    await there();
    const streamed = await begin();
    expect(await at.status("PATCH", streamed, bytes)).toBe(202);
    expect(await at.status("PUT", `${streamed}?digest=${digest}`)).toBe(201);
    await there();
  });

  test("an empty blob, a cancelled upload, a digest that lies", async () => {
    const at = await start();
    await at.put(Buffer.alloc(0));
    const empty = await at.call("GET", `/v2/free/one/blobs/${contentDigest(Buffer.alloc(0))}`);
    expect([empty.status, (await empty.arrayBuffer()).byteLength]).toEqual([200, 0]);
    const location = (await at.call("POST", "/v2/free/one/blobs/uploads/")).headers.get("location")!;
    expect(await at.status("DELETE", location)).toBe(204);
    expect(await at.status("GET", location)).toBe(404);
    const lie = await at.call("POST", `/v2/free/one/blobs/uploads/?digest=${contentDigest(Buffer.from("a"))}`, "b");
    expect([lie.status, await code(lie)]).toEqual([400, "DIGEST_INVALID"]);
  });

  test("blobs mount from a named and from an unnamed source; a missing one starts an upload", async () => {
    const at = await start();
    const { digest } = await at.put(Buffer.from("mounted"));
    const mount = (query: string) => at.call("POST", `/v2/free/two/blobs/uploads/?mount=${digest}${query}`);
    expect((await mount("&from=free/one")).status).toBe(201);
    expect(await at.status("DELETE", `/v2/free/two/blobs/${digest}`)).toBe(202);
    expect((await mount("")).status).toBe(201);
    const absent = contentDigest(Buffer.from("absent"));
    const begun = await at.call("POST", `/v2/free/two/blobs/uploads/?mount=${absent}&from=free/one`);
    expect([begun.status, begun.headers.get("location")]).toEqual([202, expect.stringContaining("/v2/free/two/")]);
  });

  test("ranges and conditions", async () => {
    const at = await start();
    const bytes = randomBytes(1000);
    const { digest } = await at.put(bytes);
    const get = async (headers: Record<string, string>) => {
      const answer = await at.call("GET", `/v2/free/one/blobs/${digest}`, undefined, headers);
      return { answer, bytes: Buffer.from(await answer.arrayBuffer()) };
    };
    for (const [range, start, end] of [
      ["bytes=0-99", 0, 99],
      ["bytes=900-", 900, 999],
      ["bytes=-10", 990, 999],
      ["bytes=5-5000", 5, 999],
    ] as const) {
      const part = await get({ range });
      expect([part.answer.status, part.answer.headers.get("content-range")]).toEqual([
        206,
        `bytes ${start}-${end}/1000`,
      ]);
      expect(part.bytes.equals(bytes.subarray(start, end + 1))).toBe(true);
    }
    expect((await get({ range: "bytes=1000-" })).answer.status).toBe(416);
    expect((await get({ range: "bytes=0-9", "if-range": `"${digest}"` })).answer.status).toBe(206);
    expect((await get({ range: "bytes=0-9", "if-range": '"other"' })).answer.status).toBe(200);
    for (const tag of [`"${digest}"`, `"x", W/"${digest}"`, "*"]) {
      expect((await get({ "if-none-match": tag })).answer.status).toBe(304);
    }
    expect((await get({ "if-none-match": '"other"' })).answer.status).toBe(200);
  });

  test("a manifest comes back by tag and digest, byte for byte; tags move", async () => {
    const at = await start();
    const first = await at.image({ annotations: { n: "1" } });
    const second = await at.image({ annotations: { n: "2" } });
    for (const bytes of [first, second]) expect((await at.tag(bytes, "latest")).status).toBe(201);
    for (const reference of ["latest", contentDigest(second)]) {
      const answer = await at.call("GET", `/v2/free/one/manifests/${reference}`);
      expect(answer.headers.get("docker-content-digest")).toBe(contentDigest(second));
      expect(Buffer.from(await answer.arrayBuffer()).equals(second)).toBe(true);
    }
    const wide = contentDigest(first, "sha512");
    expect((await at.tag(first, wide)).headers.get("docker-content-digest")).toBe(wide);
    expect(await at.status("HEAD", `/v2/free/one/manifests/${wide}`)).toBe(200);
    const many = await at.tag(second, `${contentDigest(second)}?tag=a&tag=b`);
    expect([many.status, many.headers.get("oci-tag")]).toEqual([201, "a, b"]);
  });

  test("manifests that cannot be are refused with the codes of the specification", async () => {
    const at = await start();
    const absent = { mediaType: "text/plain", digest: contentDigest(Buffer.from("absent")), size: 6 };
    const cases: [Buffer, string, number, string][] = [
      [await at.image({ layers: [absent] }), "v1", 400, "MANIFEST_BLOB_UNKNOWN"],
      [Buffer.from("no json"), "v1", 400, "MANIFEST_INVALID"],
      [
        await at.image({ config: { mediaType: "text/plain", digest: "sha256:1", size: 1 } }),
        "v1",
        400,
        "MANIFEST_INVALID",
      ],
      [await at.image(), contentDigest(Buffer.from("other")), 400, "DIGEST_INVALID"],
      [await at.image(), "-bad", 400, "MANIFEST_INVALID"],
      [Buffer.alloc((4 << 20) + 1, 32), "v1", 413, "SIZE_INVALID"],
    ];
    for (const [bytes, reference, status, name] of cases) {
      const answer = await at.tag(bytes, reference);
      expect([answer.status, await code(answer)], reference).toEqual([status, name]);
    }
    const other = await at.tag(await at.image(), "v1", types.index);
    expect([other.status, await code(other)]).toEqual([400, "MANIFEST_INVALID"]);
    const missing = await at.call("GET", "/v2/free/one/manifests/absent");
    expect([missing.status, await code(missing)]).toEqual([404, "MANIFEST_UNKNOWN"]);
    const name = await at.call("GET", "/v2/Free/one/manifests/v1");
    expect([name.status, await code(name)]).toEqual([400, "NAME_INVALID"]);
  });

  test("tags are listed in order and page by page", async () => {
    const at = await start();
    const bytes = await at.image();
    for (const tag of ["c", "a", "b", "d"]) await at.tag(bytes, tag);
    const list = async (query: string) => {
      const answer = await at.call("GET", `/v2/free/one/tags/list${query}`);
      return [((await answer.json()) as { tags: string[] }).tags, answer.headers.get("link")];
    };
    expect(await list("")).toEqual([["a", "b", "c", "d"], null]);
    expect(await list("?n=2")).toEqual([["a", "b"], '</v2/free/one/tags/list?n=2&last=b>; rel="next"']);
    expect(await list("?n=2&last=b")).toEqual([["c", "d"], null]);
    expect(await list("?n=0")).toEqual([[], null]);
  });

  test("referrers, with and without a filter, also of a subject that is not there yet", async () => {
    const at = await start();
    const subject = await at.image({ annotations: { i: "subject" } });
    const descriptor = { mediaType: types.manifest, digest: contentDigest(subject), size: subject.byteLength };
    for (const type of ["text/a", "text/b"]) {
      const bytes = await at.image({ artifactType: type, subject: descriptor, annotations: { type } });
      const answer = await at.tag(bytes, contentDigest(bytes));
      expect([answer.status, answer.headers.get("oci-subject")]).toEqual([201, descriptor.digest]);
    }
    await at.tag(subject, "subject");
    const list = async (query: string) => {
      const answer = await at.call("GET", `/v2/free/one/referrers/${descriptor.digest}${query}`);
      const { manifests } = (await answer.json()) as { manifests: { artifactType: string }[] };
      return [manifests.map((m) => m.artifactType), answer.headers.get("oci-filters-applied")];
    };
    expect(await list("")).toEqual([["text/a", "text/b"], null]);
    expect(await list("?artifactType=text%2Fb")).toEqual([["text/b"], "artifactType"]);
  });

  test("deleting a tag leaves the manifest, deleting a manifest takes its tags", async () => {
    const at = await start();
    const bytes = await at.image();
    for (const tag of ["a", "b"]) await at.tag(bytes, tag);
    expect(await at.status("DELETE", "/v2/free/one/manifests/a")).toBe(202);
    expect(await at.status("HEAD", "/v2/free/one/manifests/a")).toBe(404);
    expect(await at.status("HEAD", `/v2/free/one/manifests/${contentDigest(bytes)}`)).toBe(200);
    expect(await at.status("DELETE", `/v2/free/one/manifests/${contentDigest(bytes)}`)).toBe(202);
    expect(await at.status("HEAD", "/v2/free/one/manifests/b")).toBe(404);
    expect(await at.status("DELETE", "/v2/free/one/manifests/b")).toBe(404);
  });

  test("where deletion is not allowed, nothing is deleted", async () => {
    const at = await start("never");
    const bytes = await at.image();
    await at.tag(bytes, "a");
    for (const path of [
      "manifests/a",
      `manifests/${contentDigest(bytes)}`,
      `blobs/${contentDigest(Buffer.from("{}"))}`,
    ]) {
      const answer = await at.call("DELETE", `/v2/free/one/${path}`);
      expect([answer.status, await code(answer)]).toEqual([405, "UNSUPPORTED"]);
    }
    expect(await at.status("HEAD", "/v2/free/one/manifests/a")).toBe(200);
  });

  test("anybody reads what is public", async () => {
    const at = await start();
    const layer = await at.put(Buffer.from("layer"));
    await at.put(Buffer.from("loose"));
    await at.tag(await at.image({ layers: [layer] }), "v1");
    const get = async (path: string) => (await fetch(`${at.origin}/v2/free/one/${path}`)).status;
    expect(await get("manifests/v1")).toBe(200);
    expect(await get(`blobs/${layer.digest}`)).toBe(200);
    expect(await get(`blobs/${contentDigest(Buffer.from("loose"))}`)).toBe(401);
  });
}
