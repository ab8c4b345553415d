import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mediaTypes } from "@kernlock/kernels/format";
import { OciLayout } from "@kernlock/kernels/oci";
import { beforeAll, describe, expect, test } from "vitest";
import { kernlock } from "../../scripts/project.ts";
import { newFolder, newProject, policyText, run, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
let project: string;
beforeAll(async () => {
  stage = await scene();
  project = stage.project;
  expect((await run(project, ["lock"])).status).toBe(0);
});
const explain = (cwd: string, ...args: string[]) => run(cwd, ["explain", ...args]);
const words = async (cwd: string, ...args: string[]) =>
  (await kernlock(["explain", ...args], { cwd, env: { XDG_STATE_HOME: join(cwd, "state") } })).stdout;

/** Everything that the registry has of one version, in a layout folder; with its signed bundles or without. */
async function layoutOf(signed: boolean, versions = ["1.0.0"]): Promise<string> {
  const folder = newFolder();
  const layout = await OciLayout.create(folder);
  const { manifests, blobs, tagged, attached } = stage.registry;
  for (const bytes of blobs.values()) await layout.putBlob(bytes);
  for (const version of versions) {
    const index = manifests.get(tagged.get("acme/norm")?.get(version) ?? "")!.bytes;
    const parts = JSON.parse(Buffer.from(index).toString()).manifests as { digest: string }[];
    for (const { digest } of parts) await layout.putBlob(manifests.get(digest)!.bytes);
    const { digest } = await layout.putManifest(index, { mediaType: mediaTypes.index, tag: version });
    for (const subject of signed ? [digest, ...parts.map((part) => part.digest)] : []) {
      for (const referrer of attached.get(subject) ?? []) {
        await layout.putManifest(manifests.get(referrer.digest)!.bytes, { mediaType: mediaTypes.manifest });
      }
    }
  }
  return folder;
}

describe("a locked kernel", () => {
  test("is explained from the lock alone, in words that say who and what was found", async () => {
    stage.registry.requests.length = 0;
    const { status, json } = await explain(project, "acme/norm");
    expect([status, json.ok, json.from, json.version]).toEqual([0, true, "lock", "1.0.0"]);
    expect(stage.registry.requests).toEqual([]);
    const text = await words(project, "acme/norm");
    expect(text).toContain("acme/norm 1.0.0: allowed\nfrom the lock ");
    expect(text).toMatch(/its signer is an allowed publisher: publisher, sha256:[0-9a-f]{64}\n/);
    expect(text).toContain("its builder is allowed and bound to that key: https://builder.example/one\n");
  });
  test("that is none is refused, with what else can be asked", async () => {
    const { status, json, code } = await explain(project, "acme/none");
    expect([status, code]).toEqual([1, "KL_LOCK_NO_KERNEL"]);
    expect(json.error.remedy).toContain("acme/none@VERSION");
    expect((await explain(project, "Acme/Norm")).code).toBe("KL_FORMAT_NAME");
  });
});

describe("a version of the registry", () => {
  test("is explained before it is locked", async () => {
    const { status, json } = await explain(project, "acme/norm@1.1.0");
    expect([status, json.ok, json.from, json.version]).toEqual([0, true, "registry", "1.1.0"]);
    expect([json.where, json.variants]).toEqual([stage.client.origin, ["linux-x86_64-cpu-v3"]]);
    expect(json.verdict.ok).toBe(true);
  });
  test("that the policy refuses says why, also where nothing is locked at all", async () => {
    const rule = "require: { audit: { by: [alice], criteria: [reviewed] } }";
    const own = newProject(stage.client.origin, policyText(stage.people, rule), {});
    const { status, json } = await explain(own, "acme/norm@1.1.0");
    expect([status, json.ok]).toEqual([1, false]);
    expect(json.problems.map(({ code }: { code: string }) => code)).toEqual(["KL_VERDICT_AUDIT_MISSING"]);
    const text = await words(own, "acme/norm@1.1.0");
    expect(text).toContain("acme/norm 1.1.0: refused\nfrom the registry ");
    expect(text).toContain('KL_VERDICT_AUDIT_MISSING: Nobody audited it for "reviewed".');
  });
  test("needs no project where policy and registry are named", async () => {
    const folder = newFolder();
    writeFileSync(join(folder, "trust.yaml"), policyText(stage.people));
    const { json } = await explain(
      folder,
      "acme/norm@1.0.0",
      "--policy",
      "trust.yaml",
      "--registry",
      stage.client.origin,
    );
    expect([json?.ok, json?.from]).toEqual([true, "registry"]);
  });
  test.each(["acme/norm@9.9.9", "acme/none@1.0.0"])("that is not there: %s", async (what) => {
    expect((await explain(project, what)).code).toBe("KL_OCI_NOT_FOUND");
  });
});

describe("a layout folder", () => {
  test("is explained with the bundles in it, without a registry", async () => {
    stage.registry.requests.length = 0;
    const { status, json } = await explain(project, await layoutOf(true));
    expect([status, json.ok, json.from, json.notes]).toEqual([0, true, "layout", []]);
    expect(stage.registry.requests).toEqual([]);
  });
  test("that was built and not signed says so", async () => {
    const folder = await layoutOf(false);
    mkdirSync(join(folder, "statements"));
    writeFileSync(join(folder, "statements", "index.json"), "{}");
    const { status, json } = await explain(project, folder);
    expect([status, json.problems[0].code]).toEqual([1, "KL_VERDICT_MISSING"]);
    expect(json.notes[0]).toContain("1 statements of this folder are not signed yet");
  });
  test("of two versions, or of none, is refused", async () => {
    expect((await explain(project, await layoutOf(true, ["1.0.0", "1.1.0"]))).code).toBe("KL_OCI_LAYOUT");
    expect((await explain(project, await layoutOf(true, []))).code).toBe("KL_OCI_LAYOUT");
  });
});
