/** Yanked and quarantined versions: the same answer on every path. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, makePackage, publish, refusal, startRegistry, type TestRegistry } from "./material.ts";

const first = makePackage();
const second = makePackage({ version: "2.0.0", card: "# Norm 2\n" });

async function start(): Promise<TestRegistry> {
  const at = await startRegistry();
  await publish(at, first);
  await publish(at, second);
  return at;
}
const set = (at: TestRegistry, state: "ok" | "yanked" | "quarantined", version = "2.0.0") =>
  at.registry.setVersionState({ repository: "acme/norm", version, state, reason: "it is wrong" });
const json = async (at: TestRegistry, path: string) => (await fetch(`${at.origin}${path}`)).json() as Promise<never>;

/** Every way to something that only version 2.0.0 has. */
const paths = (own: typeof second) => [
  "/v2/acme/norm/manifests/2.0.0",
  `/v2/acme/norm/manifests/${own.digest}`,
  `/v2/acme/norm/manifests/${digestOf(own.variants[0]!.manifest)}`,
  `/v2/acme/norm/blobs/${digestOf(own.variants[0]!.config)}`,
  `/v2/acme/norm/referrers/${own.digest}`,
  "/api/v1/kernels/acme/norm/2.0.0",
];

test("a quarantined version is refused by every path, to everybody, and comes back whole", async () => {
  const at = await start();
  const { token: admin } = await at.registry.createToken({ namespace: "*", role: "admin" });
  await set(at, "quarantined");
  for (const path of paths(second)) {
    for (const headers of [{}, bearer(at.read), bearer(at.write), bearer(admin)]) {
      const answer = fetch(`${at.origin}${path}`, { headers });
      expect(await refusal(answer), path).toEqual([403, "DENIED", "KL_REGISTRY_QUARANTINED"]);
    }
    expect((await fetch(`${at.origin}${path}`, { method: path.includes("/v2/") ? "HEAD" : "GET" })).status).not.toBe(
      200,
    );
  }
  expect((await fetch(`${at.origin}/kernels/acme/norm/2.0.0`)).status).toBe(404);
  expect(await json(at, "/v2/acme/norm/tags/list")).toEqual({ name: "acme/norm", tags: ["1.0.0"] });
  expect(await json(at, "/api/v1/kernels/acme/norm")).toMatchObject({
    latest: "1.0.0",
    versions: [{ version: "2.0.0", state: "quarantined", state_reason: "it is wrong" }, { version: "1.0.0" }],
  });
  // What both versions have is still there.
  expect((await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(first.payload)}`)).status).toBe(200);
  await set(at, "ok");
  for (const path of paths(second)) expect((await fetch(`${at.origin}${path}`)).status, path).toBe(200);
  expect(await json(at, "/api/v1/kernels/acme/norm")).toMatchObject({ latest: "2.0.0" });
});

test("a bundle that is attached later is withheld with its version", async () => {
  const at = await start();
  const { attach, statement } = await import("./material.ts");
  const referrer = await attach(at, at.write, second, statement(second), undefined, at.key);
  await set(at, "quarantined");
  const answer = fetch(`${at.origin}/v2/acme/norm/manifests/${referrer}`);
  expect((await refusal(answer))[2]).toBe("KL_REGISTRY_QUARANTINED");
});

test("a yanked version is served to those who name it and offered to nobody", async () => {
  const at = await start();
  await set(at, "yanked");
  for (const path of paths(second)) expect((await fetch(`${at.origin}${path}`)).status, path).toBe(200);
  expect(await json(at, "/api/v1/kernels/acme/norm/2.0.0")).toMatchObject({
    state: "yanked",
    state_reason: "it is wrong",
  });
  expect(await json(at, "/api/v1/kernels/acme/norm")).toMatchObject({ latest: "1.0.0" });
  expect(await json(at, "/api/v1/search?q=norm")).toMatchObject({ kernels: [{ latest: "1.0.0" }] });
  expect(await json(at, "/api/v1/revocations")).toMatchObject({ revocations: [{ version: "2.0.0", state: "yanked" }] });
});

test("a kernel whose versions are all in quarantine is not found by search", async () => {
  const at = await start();
  for (const version of ["1.0.0", "2.0.0"]) await set(at, "quarantined", version);
  expect(await json(at, "/api/v1/search?q=norm")).toMatchObject({ kernels: [] });
  expect(await json(at, "/api/v1/search")).toMatchObject({ kernels: [] });
  expect((await fetch(`${at.origin}/kernels/acme/norm`)).status).toBe(404);
});

test("a quarantined version cannot be published again under other bytes", async () => {
  const at = await start();
  await set(at, "quarantined");
  const { pushAll, putManifest } = await import("./material.ts");
  const other = makePackage({ version: "2.0.0", card: "# Other\n" });
  await pushAll(at, other);
  const tag = putManifest(at, at.write, "acme/norm", "2.0.0", other.index, mediaTypes.index);
  expect((await refusal(tag))[2]).toBe("KL_REGISTRY_VERSION_EXISTS");
});
