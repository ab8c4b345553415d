import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  type Digest,
  digestOf,
  fail,
  formatVariant,
  mediaTypes,
  shown,
  type Variant,
  type VariantFile,
} from "../format/index.ts";
import { checkDeviceCode, checkSharedObject, inspectElf } from "../inspect/index.ts";
import { kernelIndex, OciLayout, variantManifest } from "../oci/index.ts";
import { type Compiled, compile } from "./compile.ts";
import { type CompiledKernel, compileTriton } from "./compile-triton.ts";
import { completeOps } from "./complete.ts";
import { checkOpTable } from "./op-table.ts";
import { type ProvenanceFacts, provenanceStatement, type Scope } from "./provenance.ts";
import { revisionPattern, sourceRevision } from "./revision.ts";
import { sbom } from "./sbom.ts";
import { type KernelSource, parseKernelSource, type VariantSource } from "./source.ts";
import { readInput, type Stage, stage } from "./stage.ts";
import { findToolchain, type Toolchain } from "./toolchain.ts";
import { upstreamLicenses, upstreamWheels } from "./upstream.ts";

export interface BuildOptions {
  /** Folder of the package: kernel.json and its sources. */
  readonly packageFolder: string;
  /** Folder of the OCI layout to write; made where it is missing. The index gets the tag `<version>`. One version a layout. */
  readonly out: string;
  /** URI of who builds; it counts only when signed by a key that the policy binds to it. */
  readonly builderId: string;
  /** Commit of the sources, with `-dirty` appended where files differ from it. Default: what git says of the folder, else `unversioned`. */
  readonly revision?: string;
  /** Build only these variant keys. Default: all. */
  readonly variants?: readonly string[];
  /** Longest time for one compiler call. Default 300 s. */
  readonly timeoutMs?: number;
  /** One line on each step. */
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface BuildResult {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  readonly variants: readonly { readonly variant: string; readonly manifest: Digest; readonly facts: Variant }[];
  /** Unsigned in-toto statements, also in the folder `statements/` of the layout. `subject` is what the signed bundle refers to. */
  readonly statements: readonly {
    readonly scope: Scope;
    readonly variant: string | null;
    readonly subject: Digest;
    readonly file: string;
    readonly bytes: Uint8Array;
  }[];
}

/** The only libraries that a kernel may ask the system for. */
export const allowedLibraries = ["libc.so.6", "libm.so.6"] as const;
const abi = 0;

interface Documents {
  readonly card: Uint8Array;
  readonly license: Uint8Array;
}

interface BuiltVariant {
  readonly variant: string;
  readonly manifest: Digest;
  readonly size: number;
  readonly facts: Variant;
  readonly outputs: readonly Compiled[];
}

/**
 * Builds a package into an OCI layout, with unsigned provenance. The same inputs, tools and revision give the same
 * bytes, from whatever folder. Throws `KL_BUILD_*`, and `KL_ELF_*` for a library that no loader would take.
 */
export async function buildPackage(options: BuildOptions): Promise<BuildResult> {
  const progress = options.onProgress ?? (() => {});
  const folder = resolve(options.packageFolder);
  const kernelJson = await readInput(join(folder, "kernel.json"), "kernel.json");
  const source = parseKernelSource(kernelJson);
  const chosen = chooseVariants(source, options.variants);
  if (!/^[a-z][a-z0-9+.-]*:[!-~]{1,400}$/i.test(options.builderId))
    fail("KL_BUILD_SOURCE", "The builder id is not a URI.");
  const revision = options.revision ?? (await sourceRevision(folder));
  if (!revisionPattern.test(revision)) {
    fail("KL_BUILD_SOURCE", `${shown(revision)} is not a revision.`, {
      remedy: "Give a full git commit, or leave it out.",
    });
  }
  const toolchain = await findToolchain();
  const documents: Documents = {
    card: await readInput(join(folder, source.card), source.card),
    license: await readLicense(folder),
  };
  await using staged = await stage(folder, source);
  const layout = await OciLayout.create(options.out);

  const built: BuiltVariant[] = [];
  for (const variant of chosen) {
    progress(`compile ${source.name} ${source.version} ${variant.variant}`);
    built.push(await buildVariant({ source, variant, staged, toolchain, documents, layout, options }));
  }
  const indexBytes = kernelIndex({
    name: source.name,
    version: source.version,
    source: source.source.repository,
    revision,
    licenses: source.license,
    description: source.summary,
    variants: built.map((b) => ({
      variant: b.variant,
      manifest: { mediaType: mediaTypes.manifest, digest: b.manifest, size: b.size },
    })),
  });
  const index = digestOf(indexBytes);

  const own: [string, Digest][] = [
    ["kernel.json", digestOf(kernelJson)],
    [source.card, digestOf(documents.card)],
    ["LICENSE", digestOf(documents.license)],
  ];
  const statement = (scope: Scope, variant: string | null, subject: Digest, of: readonly BuiltVariant[]) => {
    const used = of.flatMap((b) => b.outputs.flatMap((o) => o.used));
    const upstream = source.upstream.map((u) => `src/${u.path}`);
    const facts: ProvenanceFacts = {
      source,
      scope,
      variant,
      subject,
      builderId: options.builderId,
      revision,
      revisionFrom: options.revision === undefined ? "git" : "caller",
      inputs: new Map([
        ...own,
        ...[...used, ...upstream].map((name): [string, Digest] => [name, staged.inputs.get(name)!]),
      ]),
      compiled: of.map((b) => ({ variant: b.variant, outputs: b.outputs })),
      toolchain,
      byproducts: new Map(
        scope === "index"
          ? of.map((b) => [b.variant, b.manifest] as const)
          : of.flatMap((b) => b.facts.files.map((f) => [f.path, f.digest] as const)),
      ),
    };
    return { scope, variant, subject, file: `${variant ?? "index"}.json`, bytes: provenanceStatement(facts) };
  };
  const statements = [
    statement("index", null, index, built),
    ...built.map((b) => statement("variant", b.variant, b.manifest, [b])),
  ];
  await writeStatements(options.out, statements);
  // Last, so that a layout with a tag is a whole one.
  await layout.putManifest(indexBytes, { mediaType: mediaTypes.index, tag: source.version });
  progress(`built ${source.name} ${source.version} ${index}`);
  return {
    name: source.name,
    version: source.version,
    index,
    variants: built.map(({ variant, manifest, facts }) => ({ variant, manifest, facts })),
    statements,
  };
}

async function buildVariant(of: {
  source: KernelSource;
  variant: VariantSource;
  staged: Stage;
  toolchain: Toolchain;
  documents: Documents;
  layout: OciLayout;
  options: BuildOptions;
}): Promise<BuiltVariant> {
  const { source, variant, staged, layout } = of;
  const limits = {
    timeoutMs: of.options.timeoutMs ?? 300_000,
    signal: of.options.signal,
    onProgress: of.options.onProgress,
  };
  const outputs: Compiled[] = [];
  const needed = new Set<string>();
  const kernels = new Map<string, CompiledKernel>();
  for (const step of variant.compile) {
    if (step.language === "triton") {
      const { kernel, ...output } = await compileTriton(staged, step, variant.backend, limits);
      kernels.set(output.output, kernel);
      outputs.push(output);
      continue;
    }
    const output = await compile(staged, of.toolchain, step, variant.backend, limits);
    const facts = inspectElf(output.bytes);
    checkSharedObject(facts, { allowedLibraries, libcMaximum: variant.platform.libc.minimum, exports: ["kl_get_api"] });
    await checkOpTable(staged, of.toolchain, output.output, variant.ops, limits);
    for (const library of facts.needed) needed.add(library);
    outputs.push(output);
  }
  const ops = completeOps(variant.ops, kernels);
  for (const output of outputs)
    checkDeviceCode(output.bytes, { path: output.output, kind: output.kind }, { backend: variant.backend, ops });
  const files: VariantFile[] = [];
  const add = async (path: string, kind: VariantFile["kind"], bytes: Uint8Array) => {
    files.push({ path, kind, digest: await layout.putBlob(bytes), size: bytes.byteLength });
  };
  for (const output of outputs) await add(output.output, output.kind, output.bytes);
  const wheels = upstreamWheels(outputs);
  const bill = sbom(source, variant.variant, files.toSorted(byPath), [...needed].sort(), wheels);
  for (const { path, bytes } of await upstreamLicenses(outputs)) await add(path, "license", bytes);
  await add(source.card, "card", of.documents.card);
  await add("LICENSE", "license", of.documents.license);
  await add("sbom.cdx.json", "sbom", Buffer.from(bill));
  const facts: Variant = {
    schema: "kernlock.variant/v1",
    package: source.name,
    version: source.version,
    variant: variant.variant,
    abi,
    abi_build: staged.abiBuild,
    platform: variant.platform,
    backend: variant.backend,
    ...(variant.tested === undefined ? {} : { tested: variant.tested }),
    files: files.toSorted(byPath),
    ops,
    license: source.license,
  };
  const config = Buffer.from(formatVariant(facts));
  const manifest = variantManifest(config);
  await layout.putBlob(config);
  return {
    variant: variant.variant,
    manifest: await layout.putBlob(manifest),
    size: manifest.byteLength,
    facts,
    outputs,
  };
}

const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1);

function chooseVariants(source: KernelSource, keys: readonly string[] | undefined): VariantSource[] {
  for (const key of keys ?? []) {
    if (!source.variants.some((v) => v.variant === key)) {
      fail("KL_BUILD_VARIANT", `kernel.json has no variant ${shown(key)}.`, {
        remedy: `It has ${source.variants.map((v) => v.variant).join(", ")}.`,
      });
    }
  }
  const chosen = keys === undefined ? source.variants : source.variants.filter((v) => keys.includes(v.variant));
  return chosen.toSorted((a, b) => (a.variant < b.variant ? -1 : 1));
}

/** The package's own LICENSE, else that of the source tree around it (two folders up at most). */
async function readLicense(folder: string): Promise<Uint8Array> {
  for (const place of [".", "..", "../.."]) {
    const license = await readInput(join(folder, place, "LICENSE"), "LICENSE").catch(() => undefined);
    if (license !== undefined) return license;
  }
  return fail("KL_BUILD_FILE", "The package has no file LICENSE.", {
    remedy: "Put the text of its licence beside kernel.json.",
  });
}

async function writeStatements(out: string, statements: BuildResult["statements"]): Promise<void> {
  const folder = join(out, "statements");
  await mkdir(folder, { recursive: true });
  // Statements of an earlier build into this layout would be signed along.
  for (const name of await readdir(folder)) if (name.endsWith(".json")) await rm(join(folder, name));
  for (const { file, bytes } of statements) await writeFile(join(folder, file), bytes);
}
