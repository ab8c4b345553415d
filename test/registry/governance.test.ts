/** What the pages of administration do, as commands: on the data, and through a registry that serves. */
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { mediaTypes } from "@kernlock/kernels/format";
import { RegistryClient } from "@kernlock/kernels/oci";
import { type Command, CommanderError } from "commander";
import { expect, test, vi } from "vitest";
import { policyCommand } from "../../cli/commands/policy.ts";
import { registryCommand } from "../../cli/commands/registry.ts";
import { makePackage, publish, pushAll, startRegistry } from "../../registry-server/test/material.ts";
import { newFolder } from "./drivers.ts";

const all = (root: Command): Command[] => [root, ...root.commands.flatMap(all)];

/** Exit status and the result, or the code of the refusal. In this process: a hundred starts of Node would take minutes. */
async function kernlock(args: readonly string[], token?: string): Promise<[number, never]> {
  const [first, ...rest] = args;
  const root = first === "policy" ? policyCommand() : registryCommand();
  for (const one of all(root)) one.exitOverride().configureOutput({ outputError: () => {} });
  let text = "";
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  vi.stubEnv("KERNLOCK_TOKEN", token ?? "");
  try {
    await root.parseAsync([...rest, "--json"], { from: "user" });
    const json = JSON.parse(text || "null");
    return [Number(process.exitCode ?? 0), (json?.error?.code ?? json) as never];
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return [2, "KL_CLI_USAGE" as never];
  } finally {
    stdout.mockRestore();
    vi.unstubAllEnvs();
    process.exitCode = 0;
  }
}

const osv = {
  id: "ACME-1",
  modified: "2026-11-20T10:00:00Z",
  summary: "Reads past odd rows",
  affected: [{ package: { ecosystem: "Kernlock", name: "acme/norm" } }],
};

async function start() {
  const at = await startRegistry();
  const make = async (namespace: string, role: "admin" | "auditor") =>
    (await at.registry.createToken({ namespace, role })).token;
  const folder = newFolder();
  const file = (name: string, content: unknown) => {
    writeFileSync(join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
    return join(folder, name);
  };
  const data = ["--data", at.folder];
  const served = ["--registry", at.origin];
  return { at, data, served, file, folder, auditor: await make("acme", "auditor"), admin: await make("*", "admin") };
}

test("a namespace asks for reviews; what waits is listed, approved and rejected", async () => {
  const { at, data, served, auditor } = await start();
  expect(await kernlock(["registry", "namespace", "set", "acme", "--review", "required", ...data])).toMatchObject([
    0,
    { review: "required" },
  ]);
  for (const version of ["1.0.0", "2.0.0"]) await publish(at, makePackage({ version, card: `# ${version}\n` }));
  expect(await kernlock(["registry", "review", "list", ...served], auditor)).toMatchObject([
    0,
    [
      { version: "1.0.0", state: "staged", approvable: true },
      { version: "2.0.0", state: "staged", approvable: true },
    ],
  ]);
  const approve = ["registry", "review", "approve", "acme/norm@1.0.0", ...served];
  expect(await kernlock(approve, at.write)).toEqual([1, "KL_REGISTRY_TOKEN_SCOPE"]);
  expect(await kernlock(approve, auditor)).toMatchObject([0, { state: "approved" }]);
  expect(await kernlock(["registry", "review", "reject", "acme/norm@2.0.0", ...served], auditor)).toEqual([
    2,
    "KL_CLI_USAGE",
  ]);
  const reject = ["registry", "review", "reject", "acme/norm@2.0.0", "--reason", "wrong", ...served];
  expect(await kernlock(reject, auditor)).toMatchObject([0, { state: "rejected", reason: "wrong" }]);
  expect(await kernlock(["registry", "review", "approve", "acme/norm", ...served], auditor)).toEqual([
    2,
    "KL_CLI_USAGE",
  ]);
});

test("advisories and revocations are filed, listed and withdrawn in both places", async () => {
  const { at, data, served, file, auditor, admin } = await start();
  await publish(at, makePackage());
  const path = file("osv.json", osv);
  expect(await kernlock(["registry", "advisory", "add", path, ...served], at.write)).toEqual([
    1,
    "KL_REGISTRY_TOKEN_SCOPE",
  ]);
  expect(await kernlock(["registry", "advisory", "add", path, ...served], auditor)).toMatchObject([
    0,
    { id: "ACME-1" },
  ]);
  expect(await kernlock(["registry", "advisory", "list", ...data])).toEqual([0, [osv]]);
  expect(await kernlock(["registry", "advisory", "withdraw", "ACME-1", ...data])).toMatchObject([
    0,
    { withdrawn: expect.any(String) },
  ]);
  expect(await kernlock(["registry", "advisory", "list", ...served, ...data])).toEqual([2, "KL_CLI_USAGE"]);
  expect(await kernlock(["registry", "advisory", "add", file("no.json", []), ...served], auditor)).toEqual([
    2,
    "KL_CLI_USAGE",
  ]);

  const entry = { kind: "kernel", name: "acme/norm", versions: "<1.0.0", reason: "stolen key" };
  const added = await kernlock(["registry", "revocation", "add", file("r.json", entry), ...served], admin);
  expect(added).toMatchObject([0, { entry }]);
  const quarantine = ["registry", "version", "quarantine", "acme/norm@1.0.0", "--reason", "same key"];
  expect(await kernlock([...quarantine, ...served], auditor)).toEqual([1, "KL_REGISTRY_TOKEN_SCOPE"]);
  expect(await kernlock([...quarantine, ...served], admin)).toMatchObject([0, { state: "quarantined" }]);
  for (const place of [data, served])
    expect(await kernlock(["registry", "revocation", "entries", ...place])).toMatchObject([
      0,
      [entry, { kind: "digest", reason: "acme/norm 1.0.0 is in quarantine: same key" }],
    ]);
  const { id } = added[1] as { id: string };
  expect((await kernlock(["registry", "revocation", "withdraw", id, ...data]))[0]).toBe(0);
  expect(await kernlock(["registry", "version", "release", "acme/norm@1.0.0", ...served], admin)).toMatchObject([
    0,
    { state: "ok" },
  ]);
  expect(await kernlock(["registry", "revocation", "entries", ...served])).toEqual([0, []]);
});

test("a feed goes from the list to its signature to where policies find it", async () => {
  const { at, data, served, file, folder, admin, auditor } = await start();
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = file("key.pem", privateKey.export({ type: "pkcs8", format: "pem" }) as string);
  const pem = file("key.pub", publicKey.export({ type: "spki", format: "pem" }) as string);
  const create = ["registry", "feed", "create", "acme", "--kind", "advisories", "--key", pem];
  expect(await kernlock([...create, ...data])).toMatchObject([0, { id: "acme", sequence: null }]);
  expect(await kernlock([...create, ...served], admin)).toEqual([1, "KL_REGISTRY_FEED_EXISTS"]);
  await kernlock(["registry", "advisory", "add", file("osv.json", osv), ...served], auditor);
  const [, list] = await kernlock(["registry", "advisory", "list", ...served]);
  const bundle = join(folder, "feed.json");
  const sign = (sequence: string) => [
    ...["policy", "feed", file("list.json", list), "--kind", "advisories", "--feed", "acme"],
    ...["--sequence", sequence, "--key", key, "--output", bundle],
  ];
  expect((await kernlock(sign("2")))[0]).toBe(0);
  const put = ["registry", "feed", "put", "acme", bundle];
  expect(await kernlock([...put, ...served], auditor)).toEqual([1, "KL_REGISTRY_TOKEN_NAMESPACE"]);
  expect(await kernlock([...put, ...served], admin)).toMatchObject([0, { sequence: 2 }]);
  expect((await kernlock(sign("1")))[0]).toBe(0);
  expect(await kernlock([...put, ...data])).toEqual([1, "KL_REGISTRY_NOTICE_OLDER"]);
  expect(await kernlock(["registry", "feed", "list", ...served])).toMatchObject([0, [{ id: "acme", sequence: 2 }]]);
  expect((await fetch(`${at.origin}/api/v1/feeds/acme`)).status).toBe(200);
});

test("health and the filtered audit log", async () => {
  const { at, data, served, admin } = await start();
  await publish(at, makePackage());
  for (const [place, token] of [
    [data, undefined],
    [served, admin],
  ] as const)
    expect(await kernlock(["registry", "health", ...place], token)).toMatchObject([
      0,
      { problems: { database: null, storage: null }, counts: { versions: 1 }, last: { backup: null } },
    ]);
  expect(await kernlock(["registry", "health", ...served], at.write)).toEqual([1, "KL_REGISTRY_TOKEN_SCOPE"]);
  const audit = ["registry", "audit", ...data, "--action", "version.", "--subject", "acme/norm"];
  expect(await kernlock(audit)).toMatchObject([0, [{ action: "version.publish", subject: "acme/norm@1.0.0" }]]);
  expect(await kernlock([...audit, "--after", "3"])).toEqual([2, "KL_CLI_USAGE"]);
});

test("a client hears that what it pushed waits", async () => {
  const { at } = await start();
  await at.registry.updateNamespace({ namespace: "acme", review: "required" });
  const pack = makePackage();
  await pushAll(at, pack);
  const client = new RegistryClient({ origin: at.origin, token: at.write });
  const heard: string[] = [];
  await client.putManifest(pack.name, pack.version, pack.index, mediaTypes.index, (state) => heard.push(state));
  await client.close();
  expect(heard).toEqual(["staged"]);
});
