/** `kernlock registry mirror`, as people type it, and a lock made through a mirror. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { RegistryClient } from "@kernlock/kernels/oci";
import { createLock, fetchLocked, openCache, parseManifest } from "@kernlock/loader";
import { parsePolicy } from "@kernlock/policies/trust";
import { createRegistry } from "@kernlock/registry-server";
import { expect, onTestFinished, test } from "vitest";
import { makePackage, policyFor, publish, startRegistry } from "../../registry-server/test/material.ts";
import { frontOf, startMirror } from "../../registry-server/test/mirror-material.ts";
import { newFolder } from "./drivers.ts";

const launcher = join(import.meta.dirname, "../../cli/bin/kernlock.cjs");

interface Ran {
  readonly status: number;
  readonly json: never;
  readonly stderr: string;
}

function kernlock(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((done) => {
    execFile(
      process.execPath,
      [launcher, ...args, "--json"],
      { env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : ((error.code as number | undefined) ?? 1);
        done({ status, json: JSON.parse(stdout || "null") as never, stderr });
      },
    );
  });
}

test("a mirror is declared, looked at, refreshed and dropped", { timeout: 240_000 }, async () => {
  const upstream = await startRegistry();
  await publish(upstream, makePackage());
  const data = newFolder();
  const registry = await createRegistry({ dataFolder: data });
  onTestFinished(() => registry.close(1));
  await registry.createNamespace({ name: "acme", policy: policyFor(upstream.key) });
  const { token } = await registry.createToken({ namespace: "acme", role: "admin" });
  const { origin } = await registry.listen();
  const mirror = (...args: string[]) => kernlock(["registry", "mirror", ...args], { KERNLOCK_TOKEN: token });

  const refused = await mirror("declare", "acme/*", "--data", data, "--from", "https://user:pass@a.example");
  expect([refused.status, refused.json]).toMatchObject([1, { error: { code: "KL_MIRROR_CONFIG" } }]);
  expect((await mirror("declare", "acme/*", "--data", data, "--from", origin, "--cool-down", "36h")).status).toBe(2);

  const flags = ["--data", data, "--from", upstream.origin, "--fresh", "10m", "--host", "storage.example:8443"];
  const declared = await mirror("declare", "acme/*", ...flags, "--cool-down", "7d");
  expect([declared.status, declared.json]).toMatchObject([
    0,
    {
      pattern: "acme/*",
      origin: upstream.origin,
      prefix: "acme/",
      credentials: null,
      hosts: ["storage.example:8443"],
      private_addresses: false,
      cool_down_days: 7,
      fresh_seconds: 600,
    },
  ]);
  expect(declared.stderr).toContain("trusts no clock");

  const waiting = await mirror("refresh", "acme/norm@1.0.0", "--registry", origin);
  expect([waiting.status, waiting.json]).toMatchObject([
    1,
    { packages: [{ name: "acme/norm", refused: [{ version: "1.0.0", code: "KL_VERDICT_NO_TRUSTED_TIME" }] }] },
  ]);
  // Said again with other settings.
  expect((await mirror("declare", "acme/*", ...flags)).json).toMatchObject({ cool_down_days: 0 });
  await expect
    .poll(async () => (await mirror("refresh", "acme/norm", "--registry", origin)).json, { timeout: 60_000 })
    .toMatchObject({ packages: [{ admitted: ["1.0.0"], refused: [] }], problem: null });
  expect((await mirror("refresh", "acme/*", "--registry", origin)).json).toMatchObject({
    packages: [{ name: "acme/norm", admitted: [] }],
  });
  expect((await mirror("refresh", "other/norm", "--registry", origin)).status).toBe(2);

  expect((await mirror("list", "--data", data)).json).toMatchObject([{ pattern: "acme/*", packages: ["acme/norm"] }]);
  expect((await mirror("drop", "acme/*", "--data", data)).json).toEqual({ dropped: true });
  expect((await mirror("drop", "acme/*", "--data", data)).status).toBe(1);
  expect((await mirror("list", "--data", data)).json).toEqual([]);
});

test("a lock is made through a mirror that was empty, and fetched through another one", async () => {
  const upstream = await startRegistry();
  for (const version of ["0.9.0", "1.0.0", "1.1.0"]) {
    await publish(upstream, makePackage({ version, card: `# ${version}\n` }));
  }
  const one = await startMirror(upstream);
  const client = new RegistryClient({ origin: one.origin });
  const manifest = parseManifest(
    JSON.stringify({
      version: 1,
      registry: one.origin,
      kernels: { "acme/norm": "^1.0.0" },
      variants: ["linux-x86_64-cpu-v3"],
    }),
  );
  const policy = parsePolicy(policyFor(upstream.key));
  const { lock } = await createLock({
    manifest,
    policy,
    registry: client,
    cache: openCache(newFolder()),
    now: new Date(),
  });
  await client.close();
  expect(lock.kernels["acme/norm"]).toMatchObject({ version: "1.1.0" });

  const front = await frontOf(upstream.origin);
  const two = await startMirror({ origin: front.origin, key: upstream.key });
  const other = new RegistryClient({ origin: two.origin });
  const fetched = await fetchLocked({ lock, cache: openCache(newFolder()), registry: other });
  await other.close();
  expect(fetched.presentFiles).toBe(0);
  expect(fetched.fetchedFiles).toBeGreaterThan(5);
  // Nothing but the version that the lock pins.
  expect(front.count("/manifests/1.1.0")).toBe(1);
  expect(front.count("/manifests/1.0.0")).toBe(0);
});
