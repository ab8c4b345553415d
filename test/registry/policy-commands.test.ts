/** What an operator, an officer, an auditor and a publisher type until a version is in. */
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateKeyPair } from "@kernlock/cli/keys";
import { mediaTypes } from "@kernlock/kernels/format";
import { OciLayout } from "@kernlock/kernels/oci";
import { expect, test } from "vitest";
import {
  makePackage,
  policyFor,
  startRegistry,
  statement,
  type TestKey,
  type TestPackage,
} from "../../registry-server/test/material.ts";
import { newFolder } from "./drivers.ts";

const launcher = join(import.meta.dirname, "../../cli/bin/kernlock.cjs");

test("a version comes in by feed, exception and audit, each brought from the command line", {
  timeout: 600_000,
}, async () => {
  const folder = newFolder();
  const at = await startRegistry();
  const data = ["--data", at.folder];
  const people = ["publisher", "security", "officer", "auditor"] as const;
  const [publisher, ...others] = people.map((name) => {
    const { privatePem, publicPem } = generateKeyPair("p256");
    writeFileSync(join(folder, `${name}.pem`), privatePem, { mode: 0o600 });
    return { name, pem: publicPem };
  });
  const keys = others.map(({ name, pem }) => `  ${name}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n`);
  const policy = policyFor({ pem: publisher!.pem } as TestKey)
    .replace("rules:", `${keys.join("")}criteria: { reviewed: {} }\nrules:`)
    .replace("numerics:", "    require: { audit: { by: [auditor], criteria: [reviewed] } }\nnumerics:")
    .concat(
      `revocations:\n  - { id: revoked, url: "https://feeds.invalid/r.json", by: [security], maxAgeDays: 7 }\n`,
      "exceptions: { by: [officer], maxDays: 10 }\n",
    );
  writeFileSync(join(folder, "policy.yaml"), policy);
  const kernlock = (...args: string[]) => run(args, folder, { KERNLOCK_TOKEN: at.write });
  const key = (name: (typeof people)[number]) => ["--key", `${name}.pem`];
  const first = makePackage();
  await layoutOf(first, join(folder, "first"));
  const publish = (layout: string, ...more: string[]) =>
    kernlock("publish", layout, "--registry", at.origin, ...key("publisher"), ...more);

  expect((await kernlock("registry", "namespace", "policy", "acme", "--policy", "policy.yaml", ...data)).status).toBe(
    0,
  );
  expect(await publish("first")).toMatchObject({ status: 1, json: { error: { code: "KL_FEED_MISSING" } } });
  const list = () => kernlock("registry", "namespace", "feed", "list", "acme", ...data);
  expect(await list()).toMatchObject({ status: 1, json: [{ id: "revoked", ok: false, code: "KL_FEED_MISSING" }] });

  writeFileSync(join(folder, "revocations.json"), "[]");
  const feed = ["policy", "feed", "revocations.json", "--kind", "revocations", "--feed", "revoked", ...key("security")];
  expect((await kernlock(...feed, "--sequence", "2", "--output", "feed.json")).status).toBe(0);
  expect((await kernlock(...feed, "--sequence", "1", "--output", "old.json")).status).toBe(0);
  const set = (...from: string[]) =>
    kernlock("registry", "namespace", "feed", "set", "acme", "revoked", ...from, ...data);
  expect(await set("--file", "feed.json")).toMatchObject({ status: 0, json: { outcome: "taken", sequence: 2 } });
  expect(await set("--file", "old.json")).toMatchObject({ status: 1, json: { error: { code: "KL_FEED_ROLLBACK" } } });
  expect((await set("--file", "feed.json", "--url", "https://feeds.invalid/")).status).toBe(2);
  expect(await list()).toMatchObject({ status: 0, json: [{ ok: true, sequence: 2, url: null }] });

  expect(await publish("first")).toMatchObject({ status: 1, json: { error: { code: "KL_VERDICT_AUDIT_MISSING" } } });
  const order = ["policy", "exception", "acme/norm", "--layout", "first", "--waive", "audit", "--reason", "Monday"];
  expect((await kernlock(...order, "--days", "3", ...key("officer"), "--output", "order.json")).status).toBe(0);
  const added = await kernlock("registry", "namespace", "exception", "add", "acme", "order.json", ...data);
  expect(added).toMatchObject({ status: 0, json: { kind: "exception", subject: first.digest } });
  expect((await publish("first")).status).toBe(0);

  const second = makePackage({ version: "1.1.0" });
  await layoutOf(second, join(folder, "second"));
  writeFileSync(join(folder, "index.json"), second.index);
  const audit = ["attest", "audit", "acme/norm", "--index", "index.json", "--criteria", "reviewed", ...key("auditor")];
  expect((await kernlock(...audit, "--output", "audit.json")).status).toBe(0);
  expect(await publish("second", "--bundle", "order.json")).toMatchObject({ status: 1 });
  expect(await publish("second", "--bundle", "audit.json")).toMatchObject({ status: 0, json: { bundles: 3 } });

  const kept = await kernlock("registry", "namespace", "exception", "list", "acme", ...data);
  const [{ digest }] = kept.json as unknown as [{ digest: string }];
  const remove = () => kernlock("registry", "namespace", "exception", "remove", "acme", digest, ...data);
  expect([(await remove()).status, (await remove()).status]).toEqual([0, 1]);
  const refresh = await kernlock("registry", "namespace", "feed", "refresh", "acme", ...data);
  expect(refresh).toMatchObject({ status: 0, json: [] });
  const forget = await kernlock("registry", "namespace", "feed", "remove", "acme", "revoked", ...data);
  expect(forget).toMatchObject({ status: 0, json: { removed: true } });
  expect((await list()).status).toBe(1);
});

/** As `kernlock build` would have written it. */
async function layoutOf(pack: TestPackage, folder: string): Promise<void> {
  const layout = await OciLayout.create(folder);
  for (const blob of pack.blobs) await layout.putBlob(blob);
  for (const { manifest } of pack.variants) await layout.putBlob(manifest);
  await layout.putManifest(pack.index, { mediaType: mediaTypes.index, tag: pack.version });
  mkdirSync(join(folder, "statements"));
  writeFileSync(join(folder, "statements", "index.json"), statement(pack));
  for (const variant of pack.variants) {
    writeFileSync(join(folder, "statements", `${variant.key}.json`), statement(pack, variant));
  }
}

function run(args: readonly string[], cwd: string, env: Record<string, string>) {
  return new Promise<{ status: number; json: never; stderr: string }>((done) => {
    const options = { cwd, env: { ...process.env, ...env } };
    execFile(process.execPath, [launcher, ...args, "--json"], options, (error, stdout, stderr) => {
      const status = error === null ? 0 : ((error.code as number | undefined) ?? 1);
      done({ status, json: JSON.parse(stdout || "null") as never, stderr });
    });
  });
}
