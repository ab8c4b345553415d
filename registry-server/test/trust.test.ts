import { expect, test } from "vitest";
import {
  attach,
  makePackage,
  newKey,
  policyFor,
  pushAll,
  putTag,
  refusal,
  startRegistry,
  statement,
  type TestPackage,
  type TestRegistry,
} from "./material.ts";

async function expectNothingVisible(at: TestRegistry, pack: TestPackage): Promise<void> {
  expect((await fetch(`${at.origin}/v2/${pack.name}/manifests/${pack.version}`)).status).toBe(404);
  expect((await fetch(`${at.origin}/v2/${pack.name}/manifests/${pack.digest}`)).status).toBe(401);
  expect((await fetch(`${at.origin}/api/v1/kernels/${pack.name}`)).status).toBe(404);
}

test("an unsigned version is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack, { signer: null });
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_MISSING"]);
  await expectNothingVisible(at, pack);
});

test("a version that somebody else signed is refused", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack, { signer: newKey() });
  const [status, oci, code] = await refusal(putTag(at, pack));
  expect([status, oci]).toEqual([403, "DENIED"]);
  expect(code).toMatch(/^KL_(BUNDLE|VERDICT)_/);
  await expectNothingVisible(at, pack);
});

test("a version of which one variant is not attested is refused, and passes once it is", async () => {
  const at = await startRegistry();
  const pack = makePackage({ variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] });
  await pushAll(at, pack, { signer: null });
  await attach(at, at.write, pack, statement(pack), undefined, at.key);
  const [v3, v4] = pack.variants;
  await attach(at, at.write, pack, statement(pack, v3), v3, at.key);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_MISSING"]);
  // A statement about another variant proves nothing about this one.
  await attach(at, at.write, pack, statement(pack, v3), v4, at.key);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_SUBJECT"]);
  await attach(at, at.write, pack, statement(pack, v4), v4, at.key);
  expect((await putTag(at, pack)).status).toBe(201);
});

test("a version from another source than the namespace's policy names is refused", async () => {
  const at = await startRegistry();
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(at.key, "https://git.example/other") });
  const pack = makePackage();
  await pushAll(at, pack);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_SOURCE"]);
});

test("the operator's policy stands above the namespace's", async () => {
  const at = await startRegistry({ policy: policyFor(newKey()) });
  const pack = makePackage();
  await pushAll(at, pack);
  expect((await putTag(at, pack)).status).toBe(403);
  await expectNothingVisible(at, pack);
});

test("a refusal carries the tree of requirements, so that a person can see what lacks", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await pushAll(at, pack, { signer: null });
  const answer = (await (await putTag(at, pack)).json()) as { errors: { detail: Record<string, unknown> }[] };
  expect(JSON.stringify(answer.errors[0]!.detail)).toContain("provenance of the index");
});
