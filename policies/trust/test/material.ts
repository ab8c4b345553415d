import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { digestOf } from "@kernlock/kernels/format";
import { createBundle, type KernelFacts, provenanceType, type Signer, trustedKey } from "../index.ts";

/** A real key pair as a signer, with what a policy needs of it. */
export interface TestKey extends Signer {
  readonly pem: string;
  readonly privateKey: KeyObject;
}

export function newKey(kind: "p256" | "ed25519" = "p256"): TestKey {
  const { privateKey } =
    kind === "p256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("ed25519");
  const publicKey = createPublicKey(privateKey);
  return {
    privateKey,
    publicKey,
    pem: publicKey.export({ type: "spki", format: "pem" }) as string,
    sign: async (data) => sign(kind === "p256" ? "sha256" : null, data, privateKey),
  };
}

export const now = new Date("2026-11-24T12:00:00Z");
export const builderId = "https://builder.example/one";
export const source = {
  repository: "https://git.example/kernels",
  revision: "0123456789abcdef0123456789abcdef01234567",
};

const contents = { payloads: ["shared-object"], ptx: false, license: "Apache-2.0" } as const;

export const kernel: KernelFacts = {
  name: "acme/norm",
  version: "1.2.3",
  index: digestOf("the index"),
  source,
  variants: [
    { key: "linux-x86_64-cpu-v3", manifest: digestOf("the v3 manifest"), contents },
    { key: "linux-x86_64-cpu-v4", manifest: digestOf("the v4 manifest"), contents },
  ],
};

export interface StatementParts {
  readonly name?: string;
  readonly digest?: string;
  readonly scope?: string;
  readonly variant?: string | null;
  readonly version?: string;
  readonly builder?: string;
  readonly source?: { repository: string; revision: string };
  readonly predicateType?: string;
  readonly type?: string;
  readonly subjects?: unknown[];
}

/** An in-toto statement with SLSA provenance about the kernel's index, unless `parts` say otherwise. */
export function statement(parts: StatementParts = {}): Uint8Array {
  const name = parts.name ?? kernel.name;
  const digest = parts.digest ?? kernel.index;
  return Buffer.from(
    JSON.stringify({
      _type: parts.type ?? "https://in-toto.io/Statement/v1",
      subject: parts.subjects ?? [{ name, digest: { sha256: digest.slice(7) } }],
      predicateType: parts.predicateType ?? provenanceType,
      predicate: {
        buildDefinition: {
          buildType: "https://kernlock.dev/build/package/v1",
          externalParameters: {
            package: name,
            version: parts.version ?? kernel.version,
            variant: parts.variant ?? null,
            scope: parts.scope ?? "index",
            source: parts.source ?? source,
          },
          resolvedDependencies: [],
        },
        runDetails: { builder: { id: parts.builder ?? builderId } },
      },
    }),
  );
}

/** A signed bundle, attached to what it is about. */
export async function evidence(signer: Signer, parts: StatementParts = {}, attachedTo = parts.digest ?? kernel.index) {
  return { subject: attachedTo as typeof kernel.index, bundle: await createBundle(statement(parts), signer) };
}

/** All the evidence that the kernel needs. */
export async function fullEvidence(signer: Signer) {
  return Promise.all([
    evidence(signer),
    ...kernel.variants.map(({ key, manifest }) =>
      evidence(signer, { scope: "variant", variant: key, digest: manifest }),
    ),
  ]);
}

export function policyText(
  keys: Record<string, { pem: string; validFrom?: string; validUntil?: string }>,
  rules?: string,
) {
  const entries = Object.entries(keys).map(([id, { pem, validFrom, validUntil }]) => {
    const window = [
      validFrom === undefined ? "" : `    validFrom: "${validFrom}"\n`,
      validUntil === undefined ? "" : `    validUntil: "${validUntil}"\n`,
    ].join("");
    return `  ${id}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n${window}`;
  });
  return `version: 1\nkeys:\n${entries.join("")}rules:\n${rules ?? rule()}numerics:\n  allowDequantization: false\n`;
}

export function rule(
  parts: { match?: string; publisher?: string; builder?: string; builderKey?: string; source?: string } = {},
) {
  return `  - match: "${parts.match ?? "acme/*"}"
    publishers: [${parts.publisher ?? "publisher"}]
    builders:
      - id: ${parts.builder ?? builderId}
        keys: [${parts.builderKey ?? parts.publisher ?? "publisher"}]
    sources:
      - repository: ${parts.source ?? source.repository}
`;
}

export const trusted = (key: TestKey, window = {}) => trustedKey("publisher", key.pem, window);

/** The code that a call refuses with. */
export function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as { code?: string }).code ?? `untyped: ${String(error)}`;
  }
  return "no refusal";
}
