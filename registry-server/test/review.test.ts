/** Four eyes: what a namespace wants reviewed is published by somebody else's decision. */
import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { openMaintenance } from "../index.ts";
import {
  attach,
  bearer,
  makePackage,
  newKey,
  policyFor,
  publish,
  pushAll,
  putTag,
  refusal,
  startRegistry,
  statement,
  type TestRegistry,
} from "./material.ts";

const pack = makePackage();

async function start() {
  const at = await startRegistry();
  await at.registry.updateNamespace({ namespace: "acme", review: "required" });
  const make = async (role: "admin" | "auditor" | "publisher") =>
    (await at.registry.createToken({ namespace: "acme", role })).token;
  return { at, admin: await make("admin"), auditor: await make("auditor"), second: await make("publisher") };
}

function decide(at: TestRegistry, token: string | undefined, decision: object, version = "1.0.0"): Promise<Response> {
  return fetch(`${at.origin}/api/v1/kernels/acme/norm/${version}/review`, {
    method: "PUT",
    headers: { ...(token === undefined ? {} : bearer(token)), "content-type": "application/json" },
    body: JSON.stringify(decision),
  });
}
const approve = { decision: "approve" };
const get = async (at: TestRegistry, path: string, token?: string) =>
  fetch(`${at.origin}${path}`, token === undefined ? {} : { headers: bearer(token) });

test("a version waits, is approved by somebody else, and is then like any other", async () => {
  const { at, auditor } = await start();
  await publish(at, pack);
  // The first version of its kernel: to readers there is no kernel yet.
  expect((await get(at, "/api/v1/kernels/acme/norm", at.read)).status).toBe(404);
  expect((await get(at, "/v2/acme/norm/tags/list", at.read)).status).toBe(404);
  expect((await get(at, "/kernels/acme/norm", at.read)).status).toBe(404);
  expect((await get(at, "/kernels/acme/norm", at.write)).status).toBe(200);
  expect(await (await get(at, "/api/v1/kernels/acme/norm", at.write)).json()).toMatchObject({
    latest: null,
    versions: [{ version: "1.0.0", state: "staged" }],
  });
  const { waiting } = (await (await get(at, "/api/v1/reviews", auditor)).json()) as { waiting: object[] };
  expect(waiting).toMatchObject([{ name: "acme/norm", version: "1.0.0", state: "staged", approvable: true }]);
  // The same bytes once more change nothing.
  expect((await putTag(at, pack)).status).toBe(201);

  const answer = await decide(at, auditor, approve);
  expect([answer.status, await answer.json()]).toMatchObject([200, { state: "approved" }]);
  expect((await get(at, "/v2/acme/norm/manifests/1.0.0")).status).toBe(200);
  expect((await get(at, `/v2/acme/norm/blobs/${digestOf(pack.payload)}`)).status).toBe(200);
  expect(await (await get(at, "/api/v1/kernels/acme/norm")).json()).toMatchObject({ latest: "1.0.0" });
  const entries = (await at.registry.auditAfter(0, 100)).filter(({ subject }) => subject === "acme/norm@1.0.0");
  expect(entries.map(({ action }) => action)).toEqual(["version.stage", "version.approve"]);
  expect(new Set(entries.map(({ actor }) => actor)).size).toBe(2);
  expect((await at.registry.verifyAudit()).broken).toBeNull();
  expect((await refusal(decide(at, auditor, approve)))[2]).toBe("KL_REGISTRY_VERSION_NOT_STAGED");
});

test("whoever published cannot approve, nor can who may not decide", async () => {
  const { at, admin, second } = await start();
  await pushAll(at, pack);
  expect((await putTag(at, pack, admin)).status).toBe(201);
  expect(await refusal(decide(at, admin, approve))).toEqual([403, "DENIED", "KL_REGISTRY_OWN_REVIEW"]);
  for (const [token, code] of [
    [at.write, "KL_REGISTRY_TOKEN_SCOPE"],
    [second, "KL_REGISTRY_TOKEN_SCOPE"],
    [at.read, "KL_REGISTRY_TOKEN_SCOPE"],
    [undefined, "KL_REGISTRY_UNAUTHORIZED"],
  ] as const)
    expect((await refusal(decide(at, token, approve)))[2]).toBe(code);
  const { policy } = (await at.registry.getNamespace("acme"))!;
  await at.registry.createNamespace({ name: "other", policy });
  const foreign = (await at.registry.createToken({ namespace: "other", role: "admin" })).token;
  expect((await refusal(decide(at, foreign, approve)))[2]).toBe("KL_REGISTRY_TOKEN_NAMESPACE");
  expect(await (await get(at, "/api/v1/reviews", foreign)).json()).toEqual({ waiting: [], decided: [] });
  expect((await get(at, "/v2/acme/norm/manifests/1.0.0")).status).toBe(404);
});

test("an approval judges anew: what the policy does not take any more stays where it is", async () => {
  const { at, admin } = await start();
  await publish(at, pack);
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(newKey()) });
  const [status, , code] = await refusal(decide(at, admin, approve));
  expect([status, code]).toMatchObject([403, expect.stringMatching(/^KL_(VERDICT|BUNDLE)_/)]);
  expect((await get(at, "/api/v1/kernels/acme/norm/1.0.0")).status).toBe(404);
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(at.key) });
  expect((await decide(at, admin, approve)).status).toBe(200);
});

test("a rejection needs words, is final, and its bytes go with the next collection", async () => {
  const { at, auditor } = await start();
  await publish(at, pack);
  const care = await openMaintenance({ dataFolder: at.folder });
  // While it waits, nothing of it goes.
  expect(await care.gc({ graceSeconds: -1 })).toMatchObject({ manifests: 0, blobs: [] });
  expect(await refusal(decide(at, auditor, { decision: "reject" }))).toMatchObject([
    400,
    expect.anything(),
    "KL_REGISTRY_BAD_REQUEST",
  ]);
  expect((await decide(at, auditor, { decision: "reject", reason: "wrong source" })).status).toBe(200);
  expect((await refusal(decide(at, auditor, approve)))[2]).toBe("KL_REGISTRY_VERSION_NOT_STAGED");
  expect(await refusal(putTag(at, pack))).toEqual([409, "DENIED", "KL_REGISTRY_VERSION_REJECTED"]);
  const gone = await care.gc({ graceSeconds: -1 });
  expect(gone.manifests).toBeGreaterThan(2);
  expect(await care.fsck()).toMatchObject({ sound: true });
  await care.close();
});

test("an auditor attaches to what waits, and it counts and is seen from the approval on", async () => {
  const { at, auditor } = await start();
  await publish(at, pack);
  const referrer = await attach(at, auditor, pack, statement(pack), undefined, at.key);
  expect((await get(at, `/v2/acme/norm/manifests/${referrer}`, at.read)).status).toBe(404);
  const care = await openMaintenance({ dataFolder: at.folder });
  expect(await care.gc({ graceSeconds: -1 })).toMatchObject({ manifests: 0, blobs: [] });
  expect((await decide(at, auditor, approve)).status).toBe(200);
  expect((await get(at, `/v2/acme/norm/manifests/${referrer}`)).status).toBe(200);
  expect(await care.fsck()).toMatchObject({ sound: true });
  await care.close();
});

test("whoever published may take it back", async () => {
  const { at, second } = await start();
  await publish(at, pack);
  const reject = { decision: "reject", reason: "a mistake" };
  expect((await refusal(decide(at, second, reject)))[2]).toBe("KL_REGISTRY_TOKEN_SCOPE");
  expect((await decide(at, at.write, reject)).status).toBe(200);
});

test("of two decisions at the same moment one counts", async () => {
  const { at, admin, auditor } = await start();
  await publish(at, pack);
  const answers = await Promise.all([
    decide(at, admin, approve),
    decide(at, auditor, { decision: "reject", reason: "no" }),
    decide(at, auditor, approve),
  ]);
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
});

test("what waits goes on waiting when the namespace stops to ask for reviews", async () => {
  const { at, admin } = await start();
  await publish(at, pack);
  await at.registry.updateNamespace({ namespace: "acme", review: "none" });
  const again = await putTag(at, pack);
  expect([again.status, again.headers.get("kernlock-state")]).toEqual([201, "staged"]);
  expect((await get(at, "/v2/acme/norm/manifests/1.0.0")).status).toBe(404);
  expect((await decide(at, admin, approve)).status).toBe(200);
});
