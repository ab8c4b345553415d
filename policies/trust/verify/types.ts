import type { Digest } from "@kernlock/kernels/format";
import type { Statement } from "../types.ts";
import type { WitnessKey } from "./note.ts";
import type { TrustedRoot } from "./root.ts";

/** How much a bundle must bring besides its signature. Every number counts distinct sources. */
export interface ProofDemand {
  /** Times told by a timestamp authority (RFC 3161) or by a log that promised inclusion. */
  readonly times?: number;
  readonly logEntries?: number;
  /** Certificate transparency logs that saw the certificate. */
  readonly certificateLogs?: number;
  /** Cosignatures on the checkpoint of every log entry. */
  readonly witnesses?: { readonly threshold: number; readonly keys: readonly WitnessKey[] };
}

/** Whom to believe about times and logs, and how much of it to ask for. */
export interface Anchor {
  readonly root: TrustedRoot;
  /**
   * What is left out follows from the root. For certificates: one of each kind that the root has. For keys: nothing,
   * but what a bundle brings must hold.
   */
  readonly demand?: ProofDemand;
}

/** A certificate identity that a policy names: both strings are compared character for character. */
export interface TrustedIdentity extends Anchor {
  /** The policy's name for it. */
  readonly id: string;
  /** URL of the identity provider, as in the certificate. */
  readonly issuer: string;
  /** The certificate's only subject alternative name: URI, e-mail address or user name. */
  readonly san: string;
}

/** A moment at which the signature existed already, told by somebody whom the root trusts. */
export interface TrustedTime {
  readonly source: "timestamp" | "log";
  /** Hex: serial and issuer of the timestamp authority's certificate, or the log's id. */
  readonly authority: string;
  readonly time: Date;
}

export interface LoggedEntry {
  readonly log: string;
  /** In the tree that the checkpoint speaks of. */
  readonly index: bigint;
}

/** Who signed: a key, or a certificate that one of the trusted roots stands for. */
export type StatementSigner = KeySigner | IdentitySigner;

export interface KeySigner {
  readonly kind: "key";
  readonly fingerprint: Digest;
  /** The policy's name for the key. */
  readonly keyId: string;
}

export interface IdentitySigner {
  readonly kind: "identity";
  /** The policy's name for the identity. */
  readonly identityId: string;
  readonly issuer: string;
  readonly san: string;
  /** Of the trusted root that proved it. */
  readonly root: Digest;
}

/** A statement whose signature holds. Nothing says yet that its signer may speak about its subject: `judge` does. */
export interface SignedStatement<S extends StatementSigner = KeySigner> {
  readonly signer: S;
  /** Of the signed bytes: what a lock pins. */
  readonly payloadDigest: Digest;
  /** Of the bundle's bytes, which hold parts that nobody signed. */
  readonly bundleDigest: Digest;
  readonly bundleSize: number;
  /** When the signature existed already, as trusted authorities tell; empty when nobody does. */
  readonly times: readonly TrustedTime[];
  /** The earliest of them. */
  readonly trustedTime?: Date;
  readonly logged: readonly LoggedEntry[];
  readonly statement: Statement;
}
