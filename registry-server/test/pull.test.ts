import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { makePackage, publish, refusal, startRegistry } from "./material.ts";

test("a blob comes whole, in ranges, and not at all when the client has it", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const digest = digestOf(pack.payload);
  const url = `${at.origin}/v2/acme/norm/blobs/${digest}`;
  const size = pack.payload.byteLength;
  const get = (headers: Record<string, string> = {}) => fetch(url, { headers });
  const body = async (answer: Response) => Buffer.from(await answer.arrayBuffer());

  const whole = await get();
  expect((await body(whole)).equals(pack.payload)).toBe(true);
  expect(whole.headers.get("docker-content-digest")).toBe(digest);
  expect(whole.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
  expect(whole.headers.get("content-security-policy")).toContain("sandbox");

  for (const [range, start, end] of [
    ["bytes=0-99", 0, 100],
    ["bytes=100-", 100, size],
    ["bytes=-10", size - 10, size],
    [`bytes=10-${size * 2}`, 10, size],
  ] as const) {
    const part = await get({ range });
    expect(part.status, range).toBe(206);
    expect(part.headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${size}`);
    expect((await body(part)).equals(pack.payload.subarray(start, end)), range).toBe(true);
  }
  for (const range of [`bytes=${size}-`, "bytes=20-10", "bytes=-0"]) {
    expect((await refusal(get({ range })))[2], range).toBe("KL_REGISTRY_RANGE_INVALID");
  }
  for (const range of ["bytes=0-1,3-4", "lines=1-2"]) expect((await get({ range })).status, range).toBe(200);
  expect((await get({ "if-none-match": `"${digest}"` })).status).toBe(304);

  const head = await fetch(url, { method: "HEAD" });
  expect([head.status, Number(head.headers.get("content-length"))]).toEqual([200, size]);
});

test("an unknown blob, manifest, version and kernel have their codes", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  const get = (path: string) => refusal(fetch(`${at.origin}/v2/${path}`));
  const digest = digestOf("nothing");
  expect(await get(`acme/norm/blobs/${digest}`)).toEqual([404, "BLOB_UNKNOWN", "KL_REGISTRY_BLOB_UNKNOWN"]);
  expect(await get(`acme/norm/manifests/${digest}`)).toEqual([404, "MANIFEST_UNKNOWN", "KL_REGISTRY_MANIFEST_UNKNOWN"]);
  expect(await get("acme/norm/manifests/9.9.9")).toEqual([404, "MANIFEST_UNKNOWN", "KL_REGISTRY_MANIFEST_UNKNOWN"]);
  expect(await get("acme/nothing/tags/list")).toEqual([404, "NAME_UNKNOWN", "KL_REGISTRY_KERNEL_UNKNOWN"]);
});

test("tags come in pages with a link to the next", async () => {
  const at = await startRegistry();
  for (let i = 0; i < 5; i++) await publish(at, makePackage({ version: `1.${i}.0` }));
  const seen: string[] = [];
  let path: string | undefined = "/v2/acme/norm/tags/list?n=2";
  let pages = 0;
  while (path !== undefined) {
    const answer: Response = await fetch(at.origin + path);
    const { name, tags } = (await answer.json()) as { name: string; tags: string[] };
    expect(name).toBe("acme/norm");
    seen.push(...tags);
    path = /^<(.+)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
    pages++;
  }
  expect([pages, seen]).toEqual([3, ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"]]);
  expect(await (await fetch(`${at.origin}/v2/acme/norm/tags/list?last=1.2.0`)).json()).toMatchObject({
    tags: ["1.3.0", "1.4.0"],
  });
  expect(await (await fetch(`${at.origin}/v2/acme/norm/tags/list?n=0`)).json()).toMatchObject({ tags: [] });
  expect((await refusal(fetch(`${at.origin}/v2/acme/norm/tags/list?n=-1`)))[0]).toBe(400);
});
