/** What readers get about a version, rendered once when it is published. */
import { type Digest, digestOf, isTested, mediaTypes, type Variant } from "@kernlock/kernels/format";
import type { ElfFacts } from "@kernlock/kernels/inspect";
import type { KernelIndex } from "@kernlock/kernels/oci";
import type { AcceptedStatement, Requirement, Verdict, Waiver } from "@kernlock/policies/trust";
import semver from "semver";
import type { NewVersion } from "../store/records.ts";
import { cardText, renderCard } from "./card.ts";
import type { PublishedVariant, PublishRequest } from "./publish.ts";
import { type TrustChange, trustChanges } from "./trust-changes.ts";

/** Body of `GET /api/v1/kernels/<namespace>/<name>/<version>`. */
export interface VersionDocument {
  readonly schema: "kernlock.registry.version/v1";
  readonly name: string;
  readonly version: string;
  /** Of the index: what a lock pins, and what any OCI client can pull. */
  readonly digest: Digest;
  readonly media_type: string;
  readonly size: number;
  readonly description: string;
  readonly license: string;
  readonly source: { readonly repository: string; readonly revision: string };
  readonly published_at: string;
  /** Key fingerprints of the publishers whose evidence was accepted. */
  readonly signers: readonly string[];
  /** Builder ids that these statements name. */
  readonly builders: readonly string[];
  readonly statements: readonly AcceptedStatement[];
  readonly variants: readonly VariantDocument[];
  /** Why the registry let it in, at the time it was published. */
  readonly verdict: Requirement;
  /** Only where a signed order let it in. */
  readonly mode?: "break-glass";
  /** Exceptions and orders without which it would have been refused; absent where there were none. */
  readonly waivers?: readonly Waiver[];
  /** How trust differs from the next lower version at the time; absent where it does not. */
  readonly trust_changes?: { readonly since: string; readonly changes: readonly TrustChange[] };
}

export interface VariantDocument {
  readonly variant: string;
  readonly manifest: { readonly digest: Digest; readonly size: number };
  readonly abi: number;
  readonly abi_build: Digest;
  readonly platform: Variant["platform"];
  readonly backend: Variant["backend"];
  readonly files: Variant["files"];
  readonly ops: Variant["ops"];
  readonly signers: readonly string[];
  /** Whether it was run on a device of its kind. Absent, like `binaries`, in what earlier releases published. */
  readonly tested?: boolean;
  readonly binaries?: readonly BinaryFacts[];
}

/** What the inspection at the publish found inside a payload file. */
export interface BinaryFacts {
  readonly path: string;
  /** `x86_64` for host code, `sm_90a` and `PTX sm_90` for device code. */
  readonly architectures: readonly string[];
  /** Shared libraries it asks the loader for. */
  readonly needed: readonly string[];
  readonly exports: readonly string[];
  /** How many functions it takes from those libraries, and the names of the first ones (absent in what earlier releases published). */
  readonly imports: number;
  readonly takes?: readonly string[];
  /** Highest glibc it asks for, or null. */
  readonly libc: string | null;
}

const maxNamed = 300;

/** Device code is what `variant.json` declares: the check before this compared the two. */
export function binaryFacts(path: string, elf: ElfFacts | undefined, { backend }: Variant): BinaryFacts {
  const device =
    backend.kind === "cuda" ? [...backend.architectures, ...backend.ptx.map((target) => `PTX ${target}`)] : [];
  return {
    path,
    architectures: [...(elf === undefined ? [] : ["x86_64"]), ...device],
    needed: elf?.needed ?? [],
    exports: elf?.exports ?? [],
    imports: elf?.imports.length ?? 0,
    takes: elf?.imports.slice(0, maxNamed) ?? [],
    libc: elf?.libcFloor ?? null,
  };
}

export function renderVersion(published: {
  readonly request: PublishRequest;
  readonly index: KernelIndex;
  readonly variants: readonly PublishedVariant[];
  readonly verdict: Verdict;
  readonly publishedAt: string;
  readonly card: string;
  /** The next lower version that is offered. */
  readonly before: VersionDocument | undefined;
}): { document: VersionDocument; card: string; kernel: NewVersion["kernel"] } {
  const { request, index, variants, verdict, publishedAt, before } = published;
  const signersOf = (subject: Digest) =>
    distinct(verdict.accepted.filter((s) => s.subject === subject).map((s) => s.signer));
  const plain: VersionDocument = {
    schema: "kernlock.registry.version/v1",
    name: index.name,
    version: index.version,
    digest: digestOf(request.index.bytes),
    media_type: mediaTypes.index,
    size: request.index.bytes.byteLength,
    description: index.description,
    license: index.licenses,
    source: { repository: index.source, revision: index.revision },
    published_at: publishedAt,
    signers: distinct(verdict.accepted.map((s) => s.signer)),
    builders: distinct(verdict.accepted.flatMap((s) => s.builder ?? [])),
    statements: verdict.accepted,
    variants: variants.map(({ key, manifest, manifestSize, variant, binaries }) => ({
      variant: key,
      manifest: { digest: manifest, size: manifestSize },
      abi: variant.abi,
      abi_build: variant.abi_build,
      platform: variant.platform,
      backend: variant.backend,
      files: variant.files,
      ops: variant.ops,
      signers: signersOf(manifest),
      tested: isTested(variant),
      binaries,
    })),
    verdict: verdict.tree,
    ...(verdict.mode === "break-glass" ? { mode: verdict.mode } : {}),
    ...(verdict.waivers.length === 0 ? {} : { waivers: verdict.waivers }),
  };
  const changes = before === undefined ? [] : trustChanges(before, plain);
  const document: VersionDocument =
    before === undefined || changes.length === 0
      ? plain
      : { ...plain, trust_changes: { since: before.version, changes } };
  const card = renderCard(published.card);
  return {
    document,
    card,
    kernel(others) {
      if (latestOf([...others, index.version]) !== index.version) return null;
      const ops = variants.flatMap(({ variant }) => variant.ops);
      return {
        row: {
          repository: index.name,
          namespace: request.namespace,
          latest: index.version,
          summary: index.description,
          license: index.licenses,
          publishedAt,
        },
        search: {
          summary: index.description,
          ops: distinct(ops.flatMap((op) => [op.name, op.path, op.mode, ...op.covers])).join(" "),
          backends: distinct(variants.flatMap(({ key, variant }) => [key, variant.backend.kind])).join(" "),
          card: cardText(card),
        },
      };
    },
  };
}

/** The highest release, or the highest prerelease where there is no release. */
export function latestOf(versions: readonly string[]): string | undefined {
  let latest: semver.SemVer | undefined;
  // One look at each: this runs at every publish, and sorting parses a version at each comparison.
  for (const version of versions) {
    const one = new semver.SemVer(version);
    const release = one.prerelease.length === 0;
    const before = latest?.prerelease.length === 0;
    if (latest === undefined || (release === before ? one.compare(latest) > 0 : release)) latest = one;
  }
  return latest?.version;
}

function distinct<T extends string>(values: readonly T[]): T[] {
  return [...new Set(values)].sort();
}
