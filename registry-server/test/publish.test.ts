import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, makePackage, publish, pushAll, putTag, startRegistry } from "./material.ts";

test("nothing of a version is visible before its tag, and all of it after", async () => {
  const at = await startRegistry();
  const pack = makePackage({ variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] });
  const [variant] = pack.variants;
  await pushAll(at, pack);
  const paths = [
    `/v2/acme/norm/manifests/${pack.digest}`,
    `/v2/acme/norm/manifests/${digestOf(variant!.manifest)}`,
    `/v2/acme/norm/blobs/${digestOf(variant!.config)}`,
    `/v2/acme/norm/blobs/${digestOf(pack.payload)}`,
  ];
  const statuses = (headers: Record<string, string>) =>
    Promise.all(paths.map(async (path) => (await fetch(`${at.origin}${path}`, { headers })).status));
  const referrers = async () => {
    const answer = await fetch(`${at.origin}/v2/acme/norm/referrers/${pack.digest}`);
    return ((await answer.json()) as { manifests: { digest: string }[] }).manifests;
  };

  expect(await statuses({})).toEqual([401, 401, 401, 401]);
  expect(await statuses(bearer(at.read))).toEqual([404, 404, 404, 404]);
  expect(await statuses(bearer(at.write))).toEqual([200, 200, 200, 200]);
  expect(await referrers()).toEqual([]);
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`)).status).toBe(404);

  expect((await putTag(at, pack)).status).toBe(201);
  expect(await statuses({})).toEqual([200, 200, 200, 200]);
  const [referrer, ...others] = await referrers();
  expect(others).toEqual([]);
  const get = (path: string) => fetch(`${at.origin}/v2/acme/norm/${path}`);
  const { config, layers } = (await (await get(`manifests/${referrer!.digest}`)).json()) as {
    config: { digest: string };
    layers: { digest: string }[];
  };
  for (const blob of [config, ...layers]) expect((await get(`blobs/${blob.digest}`)).status).toBe(200);
  const answer = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`);
  expect(Buffer.from(await answer.arrayBuffer()).equals(pack.index)).toBe(true);
  expect(answer.headers.get("content-type")).toBe(mediaTypes.index);
  expect(answer.headers.get("docker-content-digest")).toBe(pack.digest);
});

test("the JSON document of a version tells variants, files, signer and verdict", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const get = async (path: string) => (await fetch(`${at.origin}/api/v1/${path}`)).json() as Promise<never>;
  const document: Record<string, unknown> = await get("kernels/acme/norm/1.0.0");
  const signer = digestOf(at.key.publicKey.export({ type: "spki", format: "der" }));
  expect(document).toMatchObject({
    name: "acme/norm",
    version: "1.0.0",
    digest: pack.digest,
    signers: [signer],
    builders: ["https://builder.example/one"],
    source: { repository: "https://git.example/norm" },
    variants: [{ variant: "linux-x86_64-cpu-v3", signers: [signer], files: [{}, { digest: digestOf(pack.payload) }] }],
    verdict: { ok: true },
  });
  expect(await get("kernels/acme/norm")).toMatchObject({ latest: "1.0.0", versions: [{ digest: pack.digest }] });
  expect(await get("search?q=square%20no")).toMatchObject({ kernels: [{ name: "acme/norm", latest: "1.0.0" }] });
  expect(await get("search?q=attention")).toMatchObject({ kernels: [] });
});

test("evidence that arrives after the tag is visible at once", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const { attach, newKey, statement } = await import("./material.ts");
  const digest = await attach(at, at.write, pack, statement(pack), undefined, newKey());
  const answer = await fetch(`${at.origin}/v2/acme/norm/manifests/${digest}`);
  expect(answer.status).toBe(200);
});

test("the newest release is the latest, whatever the order of publishing", async () => {
  const at = await startRegistry();
  for (const version of ["1.10.0", "1.9.0", "2.0.0-rc.1"]) await publish(at, makePackage({ version }));
  const answer = await fetch(`${at.origin}/api/v1/kernels/acme/norm`);
  const kernel = (await answer.json()) as { latest: string; versions: { version: string }[] };
  expect(kernel.latest).toBe("1.10.0");
  expect(kernel.versions.map((v) => v.version)).toEqual(["2.0.0-rc.1", "1.10.0", "1.9.0"]);
});
