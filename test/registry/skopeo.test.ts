/** What docs/registry-api.md promises to unmodified clients: plain HTTP calls, and skopeo as Debian ships it. */
import { execFile } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { digestOf } from "@kernlock/kernels/format";
import type { Role } from "@kernlock/registry-server";
import { describe, expect, test } from "vitest";
import {
  bearer,
  makePackage,
  policyFor,
  publish,
  startRegistry,
  temporaryFolder,
} from "../../registry-server/test/material.ts";

const run = promisify(execFile);
const has = (tool: string) =>
  (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

describe.skipIf(!has("curl"))("a digest with plain HTTP calls (needs curl)", () => {
  test("index, manifest and file of a public kernel, by digest alone", async () => {
    const at = await startRegistry();
    const pack = makePackage();
    await publish(at, pack);
    const curl = async (path: string) => {
      const { stdout } = await run("curl", ["-sf", `${at.origin}${path}`], { encoding: "buffer" });
      return stdout;
    };
    const index = await curl(`/v2/acme/norm/manifests/${pack.digest}`);
    expect(digestOf(index)).toBe(pack.digest);
    const [{ digest: manifestDigest }] = JSON.parse(index.toString()).manifests;
    const manifest = await curl(`/v2/acme/norm/manifests/${manifestDigest}`);
    expect(digestOf(manifest)).toBe(manifestDigest);
    for (const { digest } of JSON.parse(manifest.toString()).layers) {
      expect(digestOf(await curl(`/v2/acme/norm/blobs/${digest}`))).toBe(digest);
    }
  });
});

describe.skipIf(!has("skopeo"))("unmodified skopeo (needs skopeo)", () => {
  const skopeo = (...args: string[]) => run("skopeo", args, { env: { ...process.env, HOME: temporaryFolder() } });

  test("lists, copies by tag and by digest, and keeps every byte", async () => {
    const at = await startRegistry();
    const pack = makePackage({ variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] });
    await publish(at, pack);
    const { host } = new URL(at.origin);
    const list = await skopeo("list-tags", "--tls-verify=false", `docker://${host}/acme/norm`);
    expect(JSON.parse(list.stdout).Tags).toEqual(["1.0.0"]);

    for (const reference of [":1.0.0", `@${pack.digest}`]) {
      const folder = temporaryFolder();
      await skopeo(
        "copy",
        "--all",
        "--src-tls-verify=false",
        `docker://${host}/acme/norm${reference}`,
        `oci:${folder}:1.0.0`,
      );
      const layout = JSON.parse(readFileSync(join(folder, "index.json"), "utf8"));
      expect(layout.manifests[0].digest).toBe(pack.digest);
      for (const bytes of [pack.index, ...pack.variants.map((v) => v.manifest), ...pack.blobs]) {
        const path = join(folder, "blobs", "sha256", digestOf(bytes).slice("sha256:".length));
        expect(existsSync(path) && readFileSync(path).equals(bytes), digestOf(bytes)).toBe(true);
      }
    }
  });

  test("logs in with a token as password to read a private kernel", async () => {
    const at = await startRegistry();
    await at.registry.createNamespace({ name: "secret", visibility: "private", policy: policyFor(at.key) });
    const make = async (role: Role) => (await at.registry.createToken({ namespace: "secret", role })).token;
    const pack = makePackage({ name: "secret/norm" });
    await publish({ ...at, write: await make("publisher") }, pack);
    const source = `docker://${new URL(at.origin).host}/secret/norm:1.0.0`;
    await expect(skopeo("inspect", "--raw", "--tls-verify=false", source)).rejects.toThrow(/unauthorized|UNAUTHORIZED/);
    const { stdout } = await skopeo(
      "inspect",
      "--raw",
      "--tls-verify=false",
      "--creds",
      `me:${await make("reader")}`,
      source,
    );
    expect(digestOf(stdout)).toBe(pack.digest);
  });

  test("pushes what was pulled into another registry, which judges it by itself", async () => {
    const from = await startRegistry();
    const pack = makePackage();
    await publish(from, pack);
    const to = await startRegistry();
    const copy = () =>
      skopeo(
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-creds",
        `me:${to.write}`,
        `docker://${new URL(from.origin).host}/acme/norm:1.0.0`,
        `docker://${new URL(to.origin).host}/acme/norm:1.0.0`,
      );
    // skopeo copies no referrers, so there is no evidence yet: the tag is refused, and its index not kept.
    await expect(copy()).rejects.toThrow(/provenance|denied/i);
    expect((await fetch(`${to.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(404);
    const held = await fetch(`${to.origin}/v2/acme/norm/manifests/${pack.digest}`, { headers: bearer(to.write) });
    expect(held.status).toBe(404);
    // With the evidence that the new home's policy wants, the same copy goes through.
    const { pushAll } = await import("../../registry-server/test/material.ts");
    await pushAll(to, pack);
    await copy();
    const there = await fetch(`${to.origin}/v2/acme/norm/manifests/1.0.0`);
    expect(there.headers.get("docker-content-digest")).toBe(pack.digest);
  });
});
