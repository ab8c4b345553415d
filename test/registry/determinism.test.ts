/**
 * The same bytes, published at the same times, give the same documents: on every storage, whatever order the parts of a
 * version were pushed in, and whoever's token it was.
 */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bundleManifest } from "@kernlock/kernels/oci";
import { createBundle, provenanceType } from "@kernlock/policies/trust";
import { createRegistry, type DataOptions } from "@kernlock/registry-server";
import { afterAll, expect, onTestFinished, test } from "vitest";
import {
  makePackage,
  newKey,
  policyFor,
  putBlob,
  putManifest,
  putTag,
  statement,
  type TestPackage,
} from "../../registry-server/test/material.ts";
import { type Random, random } from "../fuzz/random.ts";
import { scaleOut, sqliteFolder, title } from "./drivers.ts";

const key = newKey();
const packs = ["1.0.0", "1.1.0", "2.0.0-rc.1"].map((version) =>
  makePackage({ version, card: `# Norm ${version}\n`, variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] }),
);

interface Put {
  readonly blobs: readonly Uint8Array[];
  readonly manifest: Uint8Array;
  readonly mediaType: string;
}

/** Signed once: a signature is another one each time. */
async function putsOf(pack: TestPackage): Promise<Put[]> {
  const subjects = [undefined, ...pack.variants];
  const attached = subjects.map(async (variant): Promise<Put> => {
    const bundle = await createBundle(statement(pack, variant), key);
    const subject = variant?.manifest ?? pack.index;
    const mediaType = variant === undefined ? mediaTypes.index : mediaTypes.manifest;
    const manifest = bundleManifest({
      bundle,
      predicateType: provenanceType,
      subject: { mediaType, digest: digestOf(subject), size: subject.byteLength },
    });
    return { blobs: [bundle, Buffer.from("{}")], manifest, mediaType: mediaTypes.manifest };
  });
  const files = pack.variants.map(({ manifest, config }) => ({
    blobs: [config, ...pack.blobs.slice(0, 2)],
    manifest,
    mediaType: mediaTypes.manifest,
  }));
  return [...files, ...(await Promise.all(attached))];
}

const puts = await Promise.all(packs.map(putsOf));
const paths = [
  "/api/openapi.json",
  "/api/v1/search?q=norm",
  "/api/v1/kernels/acme/norm",
  ...packs.map(({ version }) => `/api/v1/kernels/acme/norm/${version}`),
  ...packs.map(({ version }) => `/v2/acme/norm/manifests/${version}`),
  ...packs.flatMap(({ digest, variants }) =>
    [digest, ...variants.map(({ manifest }) => digestOf(manifest))].map((of) => `/v2/acme/norm/referrers/${of}`),
  ),
  "/v2/acme/norm/tags/list",
  "/api/v1/revocations",
  "/api/v1/advisories?package=acme/norm",
  "/",
  "/kernels/acme/norm",
  "/kernels/acme/norm/versions",
  "/kernels/acme/norm/1.0.0",
  "/kernels/acme/norm/compare?from=1.0.0&to=1.1.0",
];

async function documents(storage: DataOptions, seed: number): Promise<Record<string, string>> {
  let now = new Date("2026-11-25T12:00:00.000Z");
  const registry = await createRegistry({ ...storage, origin: "https://kernels.example", now: () => now });
  onTestFinished(() => registry.close());
  const { port } = await registry.listen();
  const at = { origin: `http://127.0.0.1:${port}` };
  await registry.createNamespace({ name: "acme", policy: policyFor(key) });
  const write = (await registry.createToken({ namespace: "acme", role: "publisher" })).token;
  const r = random(seed);
  for (const [i, pack] of packs.entries()) {
    now = new Date(now.getTime() + 60_000);
    expect((await putManifest(at, write, pack.name, pack.digest, pack.index, mediaTypes.index)).status).toBe(201);
    for (const { blobs, manifest, mediaType } of shuffled(puts[i]!, r)) {
      for (const bytes of shuffled(blobs, r)) await putBlob(at, write, pack.name, bytes);
      expect((await putManifest(at, write, pack.name, digestOf(manifest), manifest, mediaType)).status).toBe(201);
    }
    expect((await putTag({ ...at, write }, pack)).status).toBe(201);
  }
  const found: Record<string, string> = {};
  for (const path of paths) {
    const answer = await fetch(`${at.origin}${path}`);
    expect(answer.status, path).toBe(200);
    found[path] = `${answer.headers.get("etag")} ${await answer.text()}`;
  }
  return found;
}

function shuffled<T>(items: readonly T[], r: Random): T[] {
  const rest = [...items];
  return items.map(() => rest.splice(r.below(rest.length), 1)[0]!);
}

const other = scaleOut();
afterAll(() => other.close());

test("SQLite and a folder, twice, with the parts in another order", async () => {
  const [one, two] = [await documents(await sqliteFolder.open(), 1), await documents(await sqliteFolder.open(), 2)];
  for (const path of paths) expect(two[path], path).toBe(one[path]);
});

test.skipIf(other.missing !== undefined)(`SQLite and ${title(other)}`, async () => {
  const [one, two] = [await documents(await sqliteFolder.open(), 1), await documents(await other.open(), 3)];
  for (const path of paths) expect(two[path], path).toBe(one[path]);
});
