/** Every role against every action and namespace: what is not allowed here is refused. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bundleManifest } from "@kernlock/kernels/oci";
import { createBundle, provenanceType } from "@kernlock/policies/trust";
import { describe, expect, test } from "vitest";
import { type Role, roles } from "../index.ts";
import {
  bearer,
  makePackage,
  newKey,
  publish,
  putBlob,
  putManifest,
  refusal,
  startRegistry,
  statement,
  type TestRegistry,
} from "./material.ts";

type Act = (at: TestRegistry, token: string) => Promise<Response>;

const pack = makePackage();
const next = makePackage({ version: "2.0.0" });
const state = (wanted: string): Act => {
  return (at, token) =>
    fetch(`${at.origin}/api/v1/kernels/acme/norm/1.0.0/state`, {
      method: "PUT",
      headers: { ...bearer(token), "content-type": "application/json" },
      body: JSON.stringify({ state: wanted, reason: "test" }),
    });
};
const read: Act = (at, token) => fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { headers: bearer(token) });
const upload: Act = (at, token) => putBlob(at, token, "acme/norm", Buffer.from("{}"));
const attest: Act = async (at, token) => {
  const bundle = await createBundle(statement(pack), newKey());
  const subject = { mediaType: mediaTypes.index, digest: pack.digest, size: pack.index.byteLength };
  const manifest = bundleManifest({ bundle, predicateType: provenanceType, subject });
  for (const bytes of [bundle, Buffer.from("{}")]) await putBlob(at, token, "acme/norm", bytes);
  return putManifest(at, token, "acme/norm", digestOf(manifest), manifest, mediaTypes.manifest);
};
const push: Act = (at, token) => putManifest(at, token, "acme/norm", next.digest, next.index, mediaTypes.index);
const remove: Act = (at, token) =>
  fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { method: "DELETE", headers: bearer(token) });

/** Status for the roles of the namespace itself, in the order of `roles`: reader, publisher, auditor, admin. */
const matrix: [string, Act, readonly [number, number, number, number]][] = [
  ["read", read, [200, 200, 200, 200]],
  ["upload a small blob", upload, [403, 201, 201, 201]],
  ["attach a bundle to a version", attest, [403, 201, 201, 201]],
  ["push a manifest", push, [403, 201, 403, 201]],
  ["delete a version", remove, [403, 405, 403, 405]],
  ["yank", state("yanked"), [403, 200, 403, 200]],
  ["quarantine", state("quarantined"), [403, 403, 403, 200]],
];

describe.each(matrix)("%s", (_name, act, wanted) => {
  test.each(roles.map((role, i) => [role, wanted[i]!] as [Role, number]))(
    "%s of the namespace: %i",
    async (role, status) => {
      const at = await startRegistry();
      await publish(at, pack);
      const { token } = await at.registry.createToken({ namespace: "acme", role });
      expect((await act(at, token)).status).toBe(status);
      // The same with a token for all namespaces.
      const all = await at.registry.createToken({ namespace: "*", role });
      if (act !== remove && status !== 405) expect([status, 200, 201]).toContain((await act(at, all.token)).status);
    },
  );

  test.each(roles)("%s of another namespace is refused, but for reading what is public", async (role) => {
    const at = await startRegistry();
    await publish(at, pack);
    const { policy } = (await at.registry.getNamespace("acme"))!;
    await at.registry.createNamespace({ name: "other", policy });
    const { token } = await at.registry.createToken({ namespace: "other", role });
    expect((await act(at, token)).status).toBe(act === read ? 200 : 403);
  });

  test("nobody is refused, but for reading what is public", async () => {
    const at = await startRegistry();
    await publish(at, pack);
    expect((await act(at, "klr_anonymous")).status).toBe(act === read ? 200 : 401);
  });
});

test("an auditor attaches nothing to what is not published, and nothing large", async () => {
  const at = await startRegistry();
  const { token } = await at.registry.createToken({ namespace: "acme", role: "auditor" });
  const answer = attest(at, token);
  expect(await refusal(answer)).toEqual([403, "DENIED", "KL_REGISTRY_TOKEN_SCOPE"]);
  const large = putBlob(at, token, "acme/norm", Buffer.alloc((4 << 20) + 1));
  expect((await refusal(large))[2]).toBe("KL_REGISTRY_BLOB_TOO_LARGE");
});

test("a token of one package writes to that one alone", async () => {
  const at = await startRegistry();
  const { token } = await at.registry.createToken({ namespace: "acme", role: "publisher", package: "acme/norm" });
  expect((await putBlob(at, token, "acme/norm", Buffer.from("x"))).status).toBe(201);
  expect((await refusal(putBlob(at, token, "acme/other", Buffer.from("x"))))[2]).toBe("KL_REGISTRY_TOKEN_NAMESPACE");
});
