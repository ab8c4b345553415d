import type { KeyObject } from "node:crypto";
import type { Digest, ErrorCode } from "@kernlock/kernels/format";
import type {
  Anchor,
  IdentitySigner,
  KeySigner,
  SignedStatement,
  StatementSigner,
  TrustedIdentity,
} from "./verify/types.ts";

export type { IdentitySigner, KeySigner, SignedStatement, StatementSigner };

/** What signs: a file, an environment variable, later an HSM or a cloud. `sign` gets the bytes, not their hash. */
export interface Signer {
  readonly publicKey: KeyObject;
  /** P-256: an ECDSA signature over SHA-256, DER. Ed25519: the plain 64 bytes. */
  sign(data: Uint8Array): Promise<Uint8Array>;
}

/** A key that a policy names. Its identity is the digest of its SPKI DER, never its name or a bundle's hint. */
export interface TrustedKey {
  readonly id: string;
  readonly fingerprint: Digest;
  readonly publicKey: KeyObject;
  /** Window in which its signatures count, compared with the caller's clock; open where absent. */
  readonly validFrom?: Date;
  readonly validUntil?: Date;
}

export interface Subject {
  readonly name?: string;
  readonly digest: Readonly<Record<string, string>>;
}

/** An in-toto statement; `predicate` is as the signer wrote it and is read by whoever knows its type. */
export interface Statement {
  readonly _type: string;
  readonly predicateType: string;
  readonly subject: readonly Subject[];
  readonly predicate: Readonly<Record<string, unknown>>;
}

export interface SourceRule {
  readonly repository: string;
  readonly revision?: string;
  /** A branch or tag, as the builder wrote it into the statement's source. */
  readonly ref?: string;
}

export interface BuilderRule {
  readonly id: string;
  /** Ids of keys or principals; this builder id counts only when one of them signed. */
  readonly keys: readonly string[];
}

/** A person or an organisation: however many keys it has, it counts once. A key that nobody owns is its own principal. */
export interface Principal {
  readonly id: string;
  readonly keys: readonly string[];
}

/** Evidence that a rule demands besides provenance. `by` names keys or principals; `atLeast` counts principals. */
export type Demand =
  | { readonly kind: "allOf" | "anyOf"; readonly of: readonly Demand[] }
  | { readonly kind: "atLeast"; readonly count: number; readonly of: readonly Demand[] }
  | LeafDemand;

export type LeafDemand = { readonly by: readonly string[]; readonly atLeast: number; readonly maxAgeDays?: number } & (
  | { readonly kind: "audit"; readonly criteria: readonly string[] }
  | { readonly kind: "test"; readonly suites: readonly string[]; readonly devices?: readonly string[] }
  | { readonly kind: "sbom" }
  | { readonly kind: "vsa"; readonly levels: readonly string[] }
  /** SLSA provenance of the same bytes by somebody else than the publisher: a reproduced build. */
  | { readonly kind: "rebuild" }
);

export type PayloadKind = "shared-object" | "device-image";

export interface Rule {
  /** A package name, or a pattern where `*` stands for any text inside one segment. */
  readonly match: string;
  /** What a rule in mode "warn" finds is reported and refuses nothing; it allows nothing either. */
  readonly mode: "enforce" | "warn";
  readonly publishers: readonly string[];
  readonly builders: readonly BuilderRule[];
  readonly sources: readonly SourceRule[];
  readonly require?: Demand;
  /** SPDX expressions, compared as text. */
  readonly licenses?: readonly string[];
  readonly payloads?: readonly PayloadKind[];
  /** Libraries that a payload may need, out of those that the loader knows at all. */
  readonly libraries?: readonly string[];
  /** Lets a variant carry PTX, which the driver compiles: then what runs is not what was signed. */
  readonly ptx: boolean;
  /** Lets a variant that nobody tested pass a demand for tests. */
  readonly untestedVariants: boolean;
  /** Cool-down: a trusted time must say that the provenance is at least this old. */
  readonly minimumAgeDays?: number;
  readonly minimumVersion?: string;
}

/** An audit criterion; one that implies another satisfies a demand for it. */
export interface Criterion {
  readonly description?: string;
  readonly implies: readonly string[];
}

/** A document outside of the policy that can only refuse: OSV advisories, or revocations. */
export interface Feed {
  readonly id: string;
  readonly kind: "advisories" | "revocations";
  readonly location: { readonly file: string } | { readonly url: string };
  /** Who signs it. Only a local file of advisories may come unsigned; it has no sequence and no age then. */
  readonly by?: readonly string[];
  readonly maxAgeDays?: number;
  readonly action: "refuse" | "warn";
}

/** Who may sign something, and how many of them it takes. */
export interface Authority {
  readonly by: readonly string[];
  readonly atLeast: number;
  readonly maxDays?: number;
}

/** What a policy names but does not hold. Whoever reads the policy hands it in; nothing here is trusted before checks. */
export interface Documents {
  /** By the feed's id. */
  readonly feeds: ReadonlyMap<string, Uint8Array>;
  /** Bundles: exceptions and break-glass orders. */
  readonly exceptions: readonly Uint8Array[];
  /** The newest sequence number that this client has seen of each feed. */
  readonly seen: Readonly<Record<string, number>>;
}

export interface Policy {
  readonly version: 1;
  /** sha256 of the policy file's bytes. */
  readonly digest: Digest;
  /** By id. */
  readonly keys: ReadonlyMap<string, TrustedKey>;
  /** Certificate identities, by id. They share one namespace with keys and principals. */
  readonly identities: ReadonlyMap<string, TrustedIdentity>;
  /** Whose times count in bundles signed with a key. */
  readonly times?: Anchor;
  /** By key or identity id: the principal that it belongs to. */
  readonly owners: ReadonlyMap<string, Principal>;
  readonly criteria: ReadonlyMap<string, Criterion>;
  readonly rules: readonly Rule[];
  readonly feeds: readonly Feed[];
  readonly exceptions?: Authority;
  readonly breakGlass?: Authority;
  /** Who must have signed the policy beside this one (in an operator's policy), and this one itself. */
  readonly approval?: Authority;
  readonly numerics: { readonly allowDequantization: boolean };
  /** `best-effort`: kernels may run where the kernel of the system offers less confinement than the whole. */
  readonly confinement: "required" | "best-effort";
  /** The only registry that kernels may come from; any when absent. */
  readonly registry?: { readonly origin: string };
  readonly documents?: Documents;
  /** A policy that must allow as well: the operator's. */
  readonly above?: Policy;
}

export interface KernelSource {
  readonly repository: string;
  readonly revision: string;
}

/** One kernel version as its index tells it: what the evidence has to be about. */
export interface KernelFacts {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  readonly source: KernelSource;
  /** SPDX, from the index. A rule that asks for licences refuses where it is absent. */
  readonly license?: string;
  /** Those that will be used, or all of them at a publish. */
  readonly variants: readonly VariantFacts[];
}

export interface VariantFacts {
  readonly key: string;
  readonly manifest: Digest;
  /** What variant.json says. A rule that asks about it refuses where it is absent. */
  readonly contents?: {
    readonly payloads: readonly PayloadKind[];
    readonly ptx: boolean;
    readonly license: string;
  };
}

/** A bundle and the manifest it was attached to. */
export interface Evidence {
  readonly subject: Digest;
  readonly bundle: Uint8Array;
}

/** A node of a verdict. A refused node has a code and a reason; an accepted leaf names the evidence it rests on. */
export interface Requirement {
  readonly requirement: string;
  readonly ok: boolean;
  readonly evidence?: Digest;
  /** What met it, in words: who signed, which builder, which source. */
  readonly found?: string;
  readonly code?: ErrorCode;
  readonly reason?: string;
  /** The exception or break-glass order (digest of what was signed) without which this node would have refused. */
  readonly waivedBy?: Digest;
  readonly children: readonly Requirement[];
}

export type Scope = "index" | "variant";

/** A statement that a requirement rests on. */
export interface AcceptedStatement {
  readonly scope: Scope;
  readonly variant: string | null;
  readonly predicateType: string;
  readonly subject: Digest;
  readonly payload: Digest;
  readonly bundle: { readonly digest: Digest; readonly size: number };
  /** Fingerprint of the key, or issuer and subject of the certificate, with a space between. */
  readonly signer: string;
  /** Both only in provenance. */
  readonly builder?: string;
  readonly source?: KernelSource;
}

/** An exception or break-glass order that made a difference. */
export interface Waiver {
  readonly kind: "exception" | "break-glass";
  readonly payload: Digest;
  readonly requirement: string;
  readonly reason: string;
  readonly expires: string;
  readonly signers: readonly string[];
}

export interface Verdict {
  readonly ok: boolean;
  /** "break-glass": allowed only because somebody signed an order to. */
  readonly mode: "enforce" | "break-glass";
  readonly tree: Requirement;
  /** What did not refuse but should be looked at: rules in mode "warn", advisories that warn. */
  readonly warnings: readonly Requirement[];
  readonly waivers: readonly Waiver[];
  /** Of each feed that was read. */
  readonly sequences: Readonly<Record<string, number>>;
  /** Empty when the verdict is no. */
  readonly accepted: readonly AcceptedStatement[];
}
