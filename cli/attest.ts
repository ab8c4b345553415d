import { readFileSync } from "node:fs";
import { type Digest, digestOf, fail, mediaTypes, parseStrictJson } from "@kernlock/kernels/format";
import {
  bundleManifest,
  type Descriptor,
  emptyConfigBlob,
  type KernelIndex,
  parseKernelIndex,
  type RegistryClient,
} from "@kernlock/kernels/oci";
import {
  auditType,
  checkPredicate,
  createBundle,
  type Signer,
  sbomType,
  testType,
  vsaType,
} from "@kernlock/policies/trust";
import { measuredIn } from "./measured.ts";

/** What a statement is about: one published version, or one variant of it. */
export interface Subject {
  readonly index: KernelIndex;
  readonly descriptor: Descriptor;
  /** Null: the whole version. */
  readonly variant: string | null;
}

/** Finds a version in a registry, or in the bytes of its index, and the variant in it. KL_ATTEST_SUBJECT. */
export function subjectFrom(bytes: Uint8Array, variant: string | undefined): Subject {
  const index = parseKernelIndex(bytes);
  if (variant === undefined) {
    const descriptor = { mediaType: mediaTypes.index, digest: digestOf(bytes), size: bytes.byteLength };
    return { index, descriptor, variant: null };
  }
  const found = index.variants.find((entry) => entry.variant === variant);
  if (found === undefined) {
    return fail("KL_ATTEST_SUBJECT", `${index.name} ${index.version} has no variant ${variant}.`, {
      remedy: `It has ${index.variants.map((entry) => entry.variant).join(", ")}.`,
    });
  }
  const { digest, size } = found.manifest;
  return { index, descriptor: { mediaType: mediaTypes.manifest, digest, size }, variant };
}

export interface When {
  readonly issued: Date;
  readonly expires?: Date;
}

/** The member that says what a statement is about, in every predicate but provenance and SBOM. */
function about({ index, variant }: Subject, { issued, expires }: When): Record<string, unknown> {
  return {
    package: index.name,
    version: index.version,
    variant,
    scope: variant === null ? "index" : "variant",
    issued: issued.toISOString(),
    ...(expires === undefined ? {} : { expires: expires.toISOString() }),
  };
}

export interface Predicate {
  readonly type: string;
  readonly value: Readonly<Record<string, unknown>>;
}

export function auditPredicate(
  subject: Subject,
  when: When,
  audit: {
    readonly criteria: readonly string[];
    readonly result: "pass" | "violation";
    readonly from?: { readonly version: string; readonly digest: Digest };
    readonly notes?: string;
  },
): Predicate {
  const { criteria, result, from, notes } = audit;
  return {
    type: auditType,
    value: {
      kernlock: about(subject, when),
      kind: from === undefined ? "full" : "delta",
      ...(from === undefined ? {} : { from }),
      criteria,
      result,
      source: { repository: subject.index.source, revision: subject.index.revision },
      ...(notes === undefined ? {} : { notes }),
    },
  };
}

/** In-toto test result; `report` is a file whose digest stands in the statement, and what it measured, where it is ours. */
export function testPredicate(
  subject: Subject,
  when: When,
  test: { readonly suite: string; readonly result: string; readonly device?: string; readonly report?: string },
): Predicate {
  const { suite, result, device, report } = test;
  const bytes = report === undefined ? undefined : readFile(report);
  const configuration =
    bytes === undefined ? [] : [{ name: "report", digest: { sha256: digestOf(bytes).slice("sha256:".length) } }];
  const measured = bytes === undefined ? undefined : measuredIn(bytes, subject);
  return {
    type: testType,
    value: {
      result,
      configuration,
      ...(measured === undefined ? {} : { measured }),
      kernlock: { ...about(subject, when), suite, ...(device === undefined ? {} : { device }) },
    },
  };
}

/** A CycloneDX document, in which the scope stands as properties of its metadata. */
export function sbomPredicate(subject: Subject, when: When, file: string): Predicate {
  const bom = parseStrictJson(readFile(file), { maxBytes: 2 << 20, maxDepth: 32, what: file });
  if (typeof bom !== "object" || bom === null || (bom as { bomFormat?: unknown }).bomFormat !== "CycloneDX") {
    return fail("KL_ATTEST_SUBJECT", `${file} is no CycloneDX document.`, { remedy: "Give a CycloneDX SBOM as JSON." });
  }
  const { metadata } = bom as { metadata?: Record<string, unknown> };
  const given = Array.isArray(metadata?.properties) ? (metadata.properties as { name?: unknown }[]) : [];
  const others = given.filter(({ name }) => typeof name !== "string" || !name.startsWith("kernlock:"));
  const { issued, ...fields } = about(subject, when);
  const properties = Object.entries(fields).flatMap(([name, value]) =>
    value === null ? [] : [{ name: `kernlock:${name}`, value: String(value) }],
  );
  return {
    type: sbomType,
    value: { ...bom, metadata: { ...metadata, timestamp: issued, properties: [...others, ...properties] } },
  };
}

export function vsaPredicate(
  subject: Subject,
  when: When,
  vsa: {
    readonly verifier: string;
    readonly registry: string;
    readonly policy: Digest;
    readonly inputs: readonly Digest[];
    readonly levels: readonly string[];
  },
): Predicate {
  const { index } = subject;
  const hex = (digest: Digest) => ({ sha256: digest.slice("sha256:".length) });
  return {
    type: vsaType,
    value: {
      verifier: { id: vsa.verifier },
      timeVerified: when.issued.toISOString(),
      resourceUri: `${vsa.registry}/${index.name}@${index.version}`,
      policy: { uri: "kernels.policy.yaml", digest: hex(vsa.policy) },
      inputAttestations: vsa.inputs.map((digest) => ({ digest: hex(digest) })),
      verificationResult: "PASSED",
      verifiedLevels: vsa.levels,
      slsaVersion: "1.1",
      kernlock: about(subject, when),
    },
  };
}

/** An in-toto statement with one subject, by its name and sha256 alone. KL_ATTEST_FORM for one that nobody could read. */
export function statementBytes(name: string, digest: Digest, { type, value }: Predicate): Uint8Array {
  checkPredicate(type, value);
  return Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name, digest: { sha256: digest.slice("sha256:".length) } }],
      predicateType: type,
      predicate: value,
    }),
  );
}

export function sign(subject: Subject, predicate: Predicate, signer: Signer): Promise<Uint8Array> {
  return createBundle(statementBytes(subject.index.name, subject.descriptor.digest, predicate), signer);
}

/** Attaches a bundle to what it is about. */
export async function attach(
  registry: RegistryClient,
  subject: Subject,
  predicateType: string,
  bundle: Uint8Array,
): Promise<Digest> {
  const { name } = subject.index;
  const manifest = bundleManifest({ bundle, subject: subject.descriptor, predicateType });
  await registry.putBlob(name, emptyConfigBlob.digest, emptyConfigBlob.bytes);
  await registry.putBlob(name, digestOf(bundle), bundle);
  return registry.putManifest(name, digestOf(manifest), manifest, mediaTypes.manifest);
}

export function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    return fail("KL_CLI_FILE", `cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Name a readable file.",
      cause: error,
    });
  }
}
