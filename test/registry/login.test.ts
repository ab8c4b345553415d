/** `kernlock login` and the registry's own commands, as people type them. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makePackage, newKey, policyFor, publish, startRegistry } from "../../registry-server/test/material.ts";
import { newFolder } from "./drivers.ts";

const launcher = join(import.meta.dirname, "../../cli/bin/kernlock.cjs");

interface Ran {
  readonly status: number;
  readonly json: never;
  readonly stderr: string;
}

function kernlock(
  args: readonly string[],
  options: { input?: string; env?: Record<string, string> } = {},
): Promise<Ran> {
  return new Promise((done) => {
    const child = execFile(
      process.execPath,
      [launcher, ...args, "--json"],
      { env: { ...process.env, ...options.env } },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : ((error.code as number | undefined) ?? 1);
        done({ status, json: JSON.parse(stdout || "null") as never, stderr });
      },
    );
    child.stdin?.end(options.input ?? "");
  });
}

test("login checks the token and stores it as docker does; logout forgets it and nothing else", async () => {
  const at = await startRegistry();
  const env = { DOCKER_CONFIG: newFolder() };
  const file = join(env.DOCKER_CONFIG, "config.json");
  const other = { auths: { "other.example": { auth: "eDp5" } }, psFormat: "table" };
  writeFileSync(file, JSON.stringify(other));

  const wrong = await kernlock(["login", at.origin], { input: `${at.read.slice(0, -1)}x\n`, env });
  expect([wrong.status, wrong.json]).toMatchObject([1, { error: { code: "KL_REGISTRY_TOKEN_MALFORMED" } }]);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(other);

  const done = await kernlock(["login", at.origin], { input: `${at.read}\n`, env });
  expect([done.status, done.json]).toEqual([0, { registry: at.origin, stored: file }]);
  const config = JSON.parse(readFileSync(file, "utf8"));
  const entry = config.auths[new URL(at.origin).host];
  expect(Buffer.from(entry.auth, "base64").toString()).toBe(`kernlock:${at.read}`);
  expect([config.auths["other.example"], config.psFormat]).toEqual([{ auth: "eDp5" }, "table"]);
  expect(statSync(file).mode & 0o777).toBe(0o600);

  expect((await kernlock(["logout", at.origin], { env })).status).toBe(0);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(other);
  expect((await kernlock(["logout", at.origin], { env })).status).toBe(1);
});

test("a registry is administered from the command line while it runs", { timeout: 240_000 }, async () => {
  const at = await startRegistry();
  const data = ["--data", at.folder];
  const registry = (...args: string[]) => kernlock(["registry", ...args, ...data]);
  const policy = join(newFolder(), "policy.yaml");
  writeFileSync(policy, policyFor(newKey()));

  expect((await registry("namespace", "create", "team", "--policy", policy)).json).toMatchObject({ kind: "kernels" });
  expect((await registry("namespace", "create", "free", "--kind", "artifacts")).json).toMatchObject({
    deletion: "allowed",
  });
  expect((await registry("namespace", "set", "free", "--deletion", "never")).json).toMatchObject({ deletion: "never" });
  const token = (await registry("token", "create", "--namespace", "*", "--role", "auditor")).json as { token: string };
  const audit = await fetch(`${at.origin}/api/v1/audit`, { headers: { authorization: `Bearer ${token.token}` } });
  expect(audit.status).toBe(200);
  const claims = ["--claim", "repository=a/b", "--claim", "repository_id=1", "--claim", "repository_owner_id=2"];
  expect((await registry("publisher", "add", "--namespace", "team", "--kind", "github", ...claims)).json).toMatchObject(
    {
      issuer: "https://token.actions.githubusercontent.com",
    },
  );

  await publish(at, makePackage());
  expect((await registry("version", "quarantine", "acme/norm@1.0.0", "--reason", "test")).status).toBe(0);
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(403);
  expect((await registry("version", "restore", "acme/norm@1.0.0")).status).toBe(0);

  expect((await registry("gc", "--dry-run")).json).toMatchObject({ dry_run: true, blobs: [] });
  expect((await registry("fsck")).json).toMatchObject({ sound: true });
  expect((await registry("scrub")).json).toMatchObject({ damaged: [] });
  expect((await registry("audit", "--verify")).json).toMatchObject({ broken: null });
  const folder = join(newFolder(), "backup");
  expect((await registry("backup", folder)).status).toBe(0);
  const restored = join(newFolder(), "data");
  expect((await kernlock(["registry", "restore", folder, "--data", restored])).status).toBe(0);
  expect(existsSync(join(restored, "registry.sqlite"))).toBe(true);
  expect((await kernlock(["registry", "fsck", "--data", newFolder()])).json).toMatchObject({
    error: { code: "KL_REGISTRY_NO_DATA" },
  });
});
