/** Every state of a version: the same answer on every path. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { standings } from "../review/states.ts";
import type { VersionState } from "../store/records.ts";
import {
  bearer,
  makePackage,
  publish,
  pushAll,
  putTag,
  refusal,
  startRegistry,
  type TestRegistry,
} from "./material.ts";

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

/** Brings 2.0.0 into a state, beside 1.0.0, which is published. */
async function inState(wanted: VersionState) {
  const at = await startRegistry();
  await publish(at, first);
  const admin = (await at.registry.createToken({ namespace: "acme", role: "admin" })).token;
  const auditor = (await at.registry.createToken({ namespace: "acme", role: "auditor" })).token;
  const held = wanted === "staged" || wanted === "rejected";
  await at.registry.updateNamespace({ namespace: "acme", review: held ? "required" : "none" });
  await pushAll(at, second);
  const put = await putTag(at, second);
  expect([put.status, put.headers.get("kernlock-state")]).toEqual([201, held ? "staged" : null]);
  if (wanted === "yanked" || wanted === "quarantined") await set(at, wanted);
  if (wanted === "rejected") {
    const answer = await fetch(`${at.origin}/api/v1/kernels/acme/norm/2.0.0/review`, {
      method: "PUT",
      headers: { ...bearer(admin), "content-type": "application/json" },
      body: JSON.stringify({ decision: "reject", reason: "it is wrong" }),
    });
    expect(answer.status).toBe(200);
  }
  return { at, readers: { nobody: undefined, reader: at.read, publisher: at.write, auditor, admin } };
}

describe.each(Object.entries(standings) as [VersionState, (typeof standings)[VersionState]][])("%s", (state, rules) => {
  test("is answered alike by its name, in the API and on its page", async () => {
    const { at, readers } = await inState(state);
    for (const [who, token] of Object.entries(readers)) {
      const member = who !== "nobody" && who !== "reader";
      const gets = rules.opens === "readers" || (rules.opens === "members" && member);
      const headers = token === undefined ? {} : bearer(token);
      const status = async (path: string) => (await fetch(`${at.origin}${path}`, { headers })).status;
      const other = rules.others === "withheld" ? 403 : 404;
      expect(await status("/v2/acme/norm/manifests/2.0.0"), who).toBe(gets ? 200 : other);
      expect(await status("/api/v1/kernels/acme/norm/2.0.0"), who).toBe(gets ? 200 : other);
      for (const page of ["", "/contents", "/provenance", "/evidence"])
        expect(await status(`/kernels/acme/norm/2.0.0${page}`), `${who} ${page}`).toBe(gets ? 200 : 404);
    }
  });

  test("is answered alike by its digests", async () => {
    const { at, readers } = await inState(state);
    const [variant] = second.variants;
    for (const [who, token] of Object.entries(readers)) {
      const member = who !== "nobody" && who !== "reader";
      const headers = token === undefined ? {} : bearer(token);
      const digests = [
        `manifests/${second.digest}`,
        `manifests/${digestOf(variant!.manifest)}`,
        `blobs/${digestOf(variant!.config)}`,
      ];
      for (const path of digests) {
        const { status } = await fetch(`${at.origin}/v2/acme/norm/${path}`, { headers });
        // What is not published is there by its digest for members, as while it was pushed; a client without a token is
        // asked for one.
        const unpublished = state === "staged" || state === "rejected";
        const hidden = who === "nobody" ? 401 : 404;
        const wanted = unpublished ? (member ? 200 : hidden) : rules.opens === "readers" ? 200 : 403;
        expect(status, `${who} ${path}`).toBe(wanted);
      }
    }
  });

  test("is named in lists to whom it concerns, and offered to nobody but as it should be", async () => {
    const { at, readers } = await inState(state);
    for (const [who, token] of Object.entries(readers)) {
      const member = who !== "nobody" && who !== "reader";
      const headers = token === undefined ? {} : bearer(token);
      const get = async (path: string) => (await fetch(`${at.origin}${path}`, { headers })).json() as Promise<never>;
      const { latest, versions } = (await get("/api/v1/kernels/acme/norm")) as {
        latest: string;
        versions: { version: string; state?: string }[];
      };
      const shown = rules.listed === "readers" || member;
      const listed = versions.map((v) => [v.version, v.state ?? "ok"]);
      expect(listed, who).toEqual([...(shown ? [["2.0.0", state]] : []), ["1.0.0", "ok"]]);
      expect(latest, who).toBe(rules.offered ? "2.0.0" : "1.0.0");
      const { tags } = (await get("/v2/acme/norm/tags/list")) as { tags: string[] };
      expect(tags, who).toEqual(rules.tag ? ["1.0.0", "2.0.0"] : ["1.0.0"]);
      const { kernels } = (await get("/api/v1/search?q=norm")) as { kernels: { latest: string }[] };
      expect(kernels, who).toMatchObject([{ latest: rules.offered ? "2.0.0" : "1.0.0" }]);
      const page = await (await fetch(`${at.origin}/kernels/acme/norm/versions`, { headers })).text();
      expect(page.includes(">2.0.0</a>"), who).toBe(shown);
    }
  });

  test("does not let its number be used for other bytes", async () => {
    const { at } = await inState(state);
    const other = makePackage({ version: "2.0.0", card: "# Other\n" });
    await pushAll(at, other);
    const [status, , code] = await refusal(putTag(at, other));
    expect([status, code]).toEqual([409, `KL_REGISTRY_VERSION_${state === "rejected" ? "REJECTED" : "EXISTS"}`]);
  });
});
