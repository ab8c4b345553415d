/** What a command can do about people and evidence: members, accounts, an issuer for serve, figures in a signed test. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateKeyPair } from "@kernlock/cli/keys";
import { digestOf } from "@kernlock/kernels/format";
import { expect, onTestFinished, test } from "vitest";
import { makePackage, policyFor, publish, startRegistry, type TestKey } from "../../registry-server/test/material.ts";
import { signInAt, startIssuer, visitor } from "../../registry-server/test/people.ts";
import { newFolder } from "./drivers.ts";

const launcher = join(import.meta.dirname, "../../cli/bin/kernlock.cjs");
const password = "correct horse battery staple";

test("members and accounts are made, listed, reset and removed", { timeout: 300_000 }, async () => {
  const at = await startRegistry();
  const registry = (...args: string[]) => run(["registry", ...args, "--data", at.folder]);
  const made = await registry("account", "create", "ada");
  expect(made).toMatchObject({ status: 0, json: { name: "ada", setup_code: expect.stringMatching(/^kls-/) } });
  expect(await registry("account", "create", "ada")).toMatchObject({
    status: 1,
    json: { error: { code: "KL_REGISTRY_ACCOUNT_EXISTS" } },
  });
  expect(await registry("account", "list")).toMatchObject({ json: [{ name: "ada", ready: false }] });
  expect(await registry("member", "list", "--namespace", "*")).toMatchObject({
    json: [{ role: "admin", issuer: "local" }],
  });

  const who = visitor(at.origin);
  const fields = { name: "ada", code: (made.json as { setup_code: string }).setup_code, password, again: password };
  expect((await who.send("/signin/setup", "/signin/setup", fields)).status).toBe(303);
  expect((await who.get("/namespaces/acme/members")).status).toBe(200);

  const short = await run(["registry", "account", "reset", "ada", "--password-stdin", "--data", at.folder], "short\n");
  expect(short).toMatchObject({ status: 1, json: { error: { code: "KL_REGISTRY_PASSWORD_WEAK" } } });
  const reset = ["registry", "account", "reset", "ada", "--password-stdin", "--data", at.folder];
  expect((await run(reset, "another password here\n")).status).toBe(0);
  expect((await who.get("/namespaces/acme/members")).status).toBe(303);

  const add = (...args: string[]) => registry("member", "add", "--namespace", "acme", "--role", "publisher", ...args);
  const issuer = ["--issuer", "https://id.example.org"];
  const member = await add(...issuer, "--claim", "groups=kernels", "--label", "The team");
  expect(member).toMatchObject({ status: 0, json: { role: "publisher", claims: { groups: "kernels" } } });
  expect((await add(...issuer, "--account", "ada")).status).toBe(2);
  expect((await add()).status).toBe(2);
  expect((await add(...issuer, "--claim", "groups")).status).toBe(2);
  expect(await add(...issuer)).toMatchObject({ status: 1, json: { error: { code: "KL_REGISTRY_IDENTITY_CONFIG" } } });
  expect(await add("--account", "nobody")).toMatchObject({
    status: 1,
    json: { error: { code: "KL_REGISTRY_ACCOUNT_UNKNOWN" } },
  });
  const { id } = member.json as { id: string };
  expect((await registry("member", "remove", id)).status).toBe(0);
  expect((await registry("member", "remove", id)).status).toBe(1);
  expect((await registry("account", "remove", "ada")).status).toBe(0);
  expect(await registry("member", "list", "--namespace", "*")).toMatchObject({ json: [] });
});

test("serve takes an issuer where people sign in", { timeout: 300_000 }, async () => {
  const issuer = await startIssuer({ secret: "hush" });
  const folder = newFolder();
  const data = join(folder, "data");
  writeFileSync(join(folder, "secret"), "hush\n");
  const member = ["registry", "member", "add", "--namespace", "*", "--role", "admin", "--issuer", issuer.url];
  expect((await run([...member, "--claim", "groups=kernels", "--data", data])).status).toBe(0);
  const serve = ["registry", "serve", "--data", data, "--port", "0", "--json"];
  const flags = ["--sign-in-issuer", issuer.url, "--sign-in-client", "kernlock"];
  expect((await run([...serve, ...flags.slice(0, 2)])).status).toBe(2);
  expect((await run([...serve, ...flags, "--sign-in-scope", "email"])).status).toBe(2);
  const child = spawn(process.execPath, [
    launcher,
    ...serve,
    ...flags,
    "--sign-in-secret-file",
    join(folder, "secret"),
  ]);
  onTestFinished(() => void child.kill("SIGKILL"));
  const who = visitor(await originOf(child));
  expect((await signInAt(who, "/signin/oidc?return=/namespaces")).headers.get("location")).toBe("/namespaces");
  expect(await (await who.get("/namespaces")).text()).toContain("Ada");
  expect(issuer.redeemed[0]!.authorization).toMatch(/^Basic /);
});

test("a signed test holds the figures of a report that is about this build, and of no other", {
  timeout: 300_000,
}, async () => {
  const { privatePem, publicPem } = generateKeyPair("p256");
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const lab = `  lab:\n    pem: |\n${publicPem.trimEnd().replaceAll(/^/gm, "      ")}\nrules:`;
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(at.key as TestKey).replace("rules:", lab) });
  const folder = newFolder();
  writeFileSync(join(folder, "lab.pem"), privatePem, { mode: 0o600 });
  const report = (digest: string) => {
    const path = join(folder, `report-${digest.slice(7, 12)}.json`);
    const kernels = [{ name: "acme/norm", version: "1.0.0", variant: "linux-x86_64-cpu-v3", digest }];
    const op = { kernel: "acme/norm", op: "copy_rows/cpp", cases: 9, failed: 0, worst_error: 2.5e-8, problems: [] };
    const other = { ...op, kernel: "acme/rope", worst_error: 0.5 };
    writeFileSync(path, JSON.stringify({ schema: "kernlock.selftest/v1", driver: null, kernels, ops: [op, other] }));
    return path;
  };
  const attest = (path: string) =>
    run(
      [
        ...["attest", "test", "acme/norm@1.0.0", "--registry", at.origin, "--suite", "numerics", "--result", "PASSED"],
        ...["--device", "a test", "--report", path, "--key", join(folder, "lab.pem")],
      ],
      "",
      { KERNLOCK_TOKEN: at.write },
    );
  const foreign = await attest(report(`sha256:${"ab".repeat(32)}`));
  expect(foreign).toMatchObject({ status: 1, json: { error: { code: "KL_ATTEST_SUBJECT" } } });
  expect((await attest(report(digestOf(pack.variants[0]!.manifest)))).status).toBe(0);
  const page = await (await fetch(`${at.origin}/kernels/acme/norm/1.0.0/evidence`)).text();
  expect(page).toContain("2.5e-8");
  expect(page).not.toContain("5.0e-1");
});

function run(
  args: readonly string[],
  input = "",
  env: Record<string, string> = {},
): Promise<{ status: number; json: unknown }> {
  return new Promise((done) => {
    const options = { env: { ...process.env, ...env } };
    const child = execFile(process.execPath, [launcher, ...args, "--json"], options, (error, stdout) => {
      const status = error === null ? 0 : ((error.code as unknown as number) ?? 1);
      done({ status, json: stdout.trim() === "" ? undefined : JSON.parse(stdout) });
    });
    child.stdin!.end(input);
  });
}

/** The first line that a server prints. */
async function originOf(child: ChildProcess): Promise<string> {
  let text = "";
  for await (const chunk of child.stdout!) {
    text += chunk;
    const origin = /"origin":\s*"([^"]+)"/.exec(text)?.[1];
    if (origin !== undefined) return origin;
  }
  return expect.fail(`The server ended: ${text}`);
}
