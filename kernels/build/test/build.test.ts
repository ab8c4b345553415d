import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { abiBuild } from "../../abi/index.ts";
import { digestHex, digestOf, mediaTypes, parseVariant } from "../../format/index.ts";
import { checkSharedObject, inspectElf } from "../../inspect/index.ts";
import { checkVariantManifest, OciLayout, parseKernelIndex, parseVariantManifest } from "../../oci/index.ts";
import { allowedLibraries, type BuildResult, buildType } from "../index.ts";
import { revision, Workshop } from "./workshop.ts";

let workshop: Workshop;
let result: BuildResult;
let layout: OciLayout;
beforeAll(async () => {
  workshop = new Workshop();
  result = await workshop.build();
  layout = await OciLayout.open(workshop.out);
});
afterAll(() => workshop[Symbol.dispose]());

test("the layout holds a whole version under its tag", async () => {
  const descriptor = await layout.resolve("1.0.0");
  expect(descriptor).toMatchObject({ digest: result.index, mediaType: mediaTypes.index });
  const index = parseKernelIndex(await layout.getBlob(descriptor.digest));
  expect(index).toMatchObject({ name: "fixtures/tiny", version: "1.0.0", revision, licenses: "Apache-2.0" });
  for (const { variant, manifest } of index.variants) {
    const parsed = parseVariantManifest(await layout.getBlob(manifest.digest));
    const facts = parseVariant(await layout.getBlob(parsed.config.digest));
    checkVariantManifest(parsed, facts, { name: index.name, version: index.version, variant });
    expect(facts.abi_build).toBe(abiBuild);
    expect(facts.files.map((f) => [f.path, f.kind])).toEqual([
      ["LICENSE", "license"],
      ["README.md", "card"],
      ["sbom.cdx.json", "sbom"],
      ["tiny.so", "shared-object"],
    ]);
    for (const file of facts.files) expect((await layout.getBlob(file.digest)).byteLength).toBe(file.size);
  }
});

test("the library does nothing on load, needs nothing foreign and exports one function", async () => {
  const file = result.variants[0]!.facts.files.find((f) => f.kind === "shared-object")!;
  const facts = inspectElf(await layout.getBlob(file.digest));
  checkSharedObject(facts, { allowedLibraries, exports: ["kl_get_api"] });
  expect(facts.initializers).toEqual([]);
});

test("the bill of materials names the payload by digest", async () => {
  const file = (path: string) => result.variants[0]!.facts.files.find((f) => f.path === path)!;
  const bill = JSON.parse(Buffer.from(await layout.getBlob(file("sbom.cdx.json").digest)).toString());
  expect(bill).toMatchObject({
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    metadata: { component: { name: "fixtures/tiny" } },
  });
  expect(bill.components[0]).toMatchObject({
    type: "file",
    name: "tiny.so",
    hashes: [{ alg: "SHA-256", content: digestHex(file("tiny.so").digest) }],
  });
});

test("the provenance tells the truth", () => {
  expect(result.statements.map((s) => [s.scope, s.variant, s.subject])).toEqual([
    ["index", null, result.index],
    ["variant", "linux-x86_64-cpu-v3", result.variants[0]!.manifest],
  ]);
  for (const s of result.statements) {
    expect(readFileSync(join(workshop.out, "statements", s.file)).equals(s.bytes)).toBe(true);
    const statement = JSON.parse(Buffer.from(s.bytes).toString());
    expect(statement).toMatchObject({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: "fixtures/tiny", digest: { sha256: digestHex(s.subject) } }],
      predicateType: "https://slsa.dev/provenance/v1",
    });
    const { buildDefinition, runDetails } = statement.predicate;
    expect(buildDefinition.buildType).toBe(buildType);
    expect(buildDefinition.externalParameters).toEqual({
      package: "fixtures/tiny",
      version: "1.0.0",
      variant: s.variant,
      scope: s.scope,
      source: { repository: "https://git.kernlock.example/fixtures", revision },
    });
    expect(buildDefinition.internalParameters.revisionFrom).toBe("caller");
    expect(buildDefinition.internalParameters.outputs[0].compile).toContain("-march=x86-64-v3");
    expect(runDetails.builder).toEqual({ id: "https://builder.example/ci" });

    const found = new Map<string, { digest: Record<string, string>; uri?: string }>();
    for (const d of buildDefinition.resolvedDependencies) found.set(d.name ?? "source", d);
    expect(found.get("source")).toEqual({
      uri: `git+https://git.kernlock.example/fixtures@${revision}`,
      digest: { gitCommit: revision },
    });
    for (const path of ["cpu/tiny.cc", "cpu/add.cc", "cpu/tiny.h"]) {
      expect(found.get(`src/${path}`)?.digest.sha256).toBe(
        digestHex(digestOf(readFileSync(join(workshop.packageFolder, path)))),
      );
    }
    for (const name of ["kernel.json", "LICENSE", "README.md", "include/kernlock.h", "include/ops.h", "system-files"]) {
      expect(found.get(name)?.digest.sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    const cc1plus = execFileSync("g++", ["-print-prog-name=cc1plus"], { encoding: "utf8" }).trim();
    expect(found.get("tool/cc1plus")?.digest.sha256).toBe(digestHex(digestOf(readFileSync(cc1plus))));
    expect([...found.keys()].filter((n) => n.startsWith("tool/"))).toEqual([
      "tool/g++",
      "tool/cc1plus",
      "tool/as",
      "tool/collect2",
      "tool/ld",
    ]);
  }
});

test("a second build into the same layout leaves nothing of the first to be signed", async () => {
  writeFileSync(join(workshop.out, "statements", "stale.json"), "{}");
  await workshop.build({ variants: ["linux-x86_64-cpu-v3"] });
  expect(await layout.tags()).toEqual(["1.0.0"]);
  const names = execFileSync("ls", [join(workshop.out, "statements")], { encoding: "utf8" })
    .trim()
    .split("\n");
  expect(names).toEqual(["index.json", "linux-x86_64-cpu-v3.json"]);
});

test("the revision is what git says, and dirty when it is", async () => {
  using w = new Workshop();
  const git = (...args: string[]) => {
    const who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
    return execFileSync("git", [...who, "-C", w.packageFolder, ...args], { encoding: "utf8" }).trim();
  };
  const build = async () => {
    const { index } = await buildFromGit(w);
    const bytes = await (await OciLayout.open(w.out)).getBlob(index);
    const statement = JSON.parse(readFileSync(join(w.out, "statements", "index.json"), "utf8"));
    return { revision: parseKernelIndex(bytes).revision, definition: statement.predicate.buildDefinition };
  };
  expect((await build()).revision).toBe("unversioned");
  git("init", "-q");
  git("add", ".");
  git("commit", "-q", "-m", "tiny");
  const head = git("rev-parse", "HEAD");
  const clean = await build();
  expect(clean.revision).toBe(head);
  expect(clean.definition.resolvedDependencies[0].digest).toEqual({ gitCommit: head });
  expect(clean.definition.internalParameters.revisionFrom).toBe("git");
  // A new header could change what is compiled, even one that git ignores.
  w.write("cpu/new.h", "");
  w.write(".gitignore", "*.h\n");
  const dirty = await build();
  expect(dirty.revision).toBe(`${head}-dirty`);
  expect(dirty.definition.resolvedDependencies[0]).toEqual({
    uri: "git+https://git.kernlock.example/fixtures",
    annotations: { state: "dirty", base: head },
  });
});

async function buildFromGit(w: Workshop): Promise<BuildResult> {
  const { buildPackage } = await import("../index.ts");
  return buildPackage({ packageFolder: w.packageFolder, out: w.out, builderId: "https://builder.example/ci" });
}
