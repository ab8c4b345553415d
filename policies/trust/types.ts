import type { KeyObject } from "node:crypto";
import type { Digest, ErrorCode } from "@kernlock/kernels/format";

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

/** A statement whose signature holds. Nothing says yet that its signer may speak about its subject: `judge` does. */
export interface SignedStatement {
  readonly signer: { readonly fingerprint: Digest; readonly keyId: string };
  /** Of the signed bytes: what a lock pins. */
  readonly payloadDigest: Digest;
  /** Of the bundle's bytes, which hold parts that nobody signed. */
  readonly bundleDigest: Digest;
  readonly bundleSize: number;
  readonly statement: Statement;
}

export interface SourceRule {
  readonly repository: string;
  readonly revision?: string;
}

export interface BuilderRule {
  readonly id: string;
  /** Ids of the policy's keys; this builder id counts only when one of them signed. */
  readonly keys: readonly string[];
}

export interface Rule {
  /** A package name, or a pattern where `*` stands for any text inside one segment. */
  readonly match: string;
  readonly publishers: readonly string[];
  readonly builders: readonly BuilderRule[];
  readonly sources: readonly SourceRule[];
}

export interface Policy {
  readonly version: 1;
  /** sha256 of the policy file's bytes. */
  readonly digest: Digest;
  /** By id. */
  readonly keys: ReadonlyMap<string, TrustedKey>;
  readonly rules: readonly Rule[];
  readonly numerics: { readonly allowDequantization: boolean };
  /** The only registry that kernels may come from; any when absent. */
  readonly registry?: { readonly origin: string };
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
  /** Those that will be used, or all of them at a publish. */
  readonly variants: readonly { readonly key: string; readonly manifest: Digest }[];
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
  readonly code?: ErrorCode;
  readonly reason?: string;
  readonly children: readonly Requirement[];
}

export type Scope = "index" | "variant";

/** A provenance statement that satisfied every rule that asked for it. */
export interface AcceptedStatement {
  readonly scope: Scope;
  readonly variant: string | null;
  readonly predicateType: string;
  readonly subject: Digest;
  readonly payload: Digest;
  readonly bundle: { readonly digest: Digest; readonly size: number };
  readonly signer: Digest;
  readonly builder: string;
  readonly source: KernelSource;
}

export interface Verdict {
  readonly ok: boolean;
  readonly tree: Requirement;
  /** Empty when the verdict is no. */
  readonly accepted: readonly AcceptedStatement[];
}
