import type { Digest, ErrorCode, KernlockError, Variant, VariantFile } from "@kernlock/kernels/format";
import type { KernelSource, Scope, Verdict } from "@kernlock/policies/trust";

/** `kernels.json`: written by people. */
export interface Manifest {
  readonly version: 1;
  /** Origin of the registry: scheme, host and port. */
  readonly registry: string;
  /** Variant keys to lock; a kernel needs at least one of them. */
  readonly variants: readonly string[];
  /** Package name -> semver range. */
  readonly kernels: Readonly<Record<string, string>>;
}

/** A blob: what it is called and how long it is. */
export interface Pin {
  readonly digest: Digest;
  readonly size: number;
}

export interface LockedFile extends Pin {
  readonly path: string;
  readonly kind: string;
}

export interface LockedVariant {
  readonly key: string;
  readonly manifest: Pin;
  /** The bytes of variant.json. */
  readonly config: Pin;
  readonly files: readonly LockedFile[];
}

export interface LockedStatement {
  readonly scope: Scope;
  /** Absent for the index. */
  readonly variant?: string;
  readonly predicateType: string;
  readonly subject: Digest;
  readonly payload: Digest;
  readonly bundle: Pin;
  /** Who signed it, where that is not the publisher: an auditor, a tester, somebody who built again. */
  readonly signer?: string;
}

export interface LockedKernel {
  readonly version: string;
  readonly index: Pin;
  readonly abi: number;
  /** Publishers that signed the pinned provenance, sorted: fingerprints, or issuer and subject of a certificate. */
  readonly signers: readonly string[];
  readonly builder: string;
  readonly source: KernelSource;
  readonly statements: readonly LockedStatement[];
  readonly variants: readonly LockedVariant[];
}

/** `kernels.lock`: written by `kernlock lock`, reviewed by people. */
export interface Lock {
  readonly lockVersion: 1;
  readonly registry: { readonly origin: string };
  /** Digest of the policy under which the lock was made. */
  readonly policy: Digest;
  /** Of each feed of advisories or revocations, the number that was in force; an older one is refused from then on. */
  readonly advisories?: Readonly<Record<string, number>>;
  /** The files of the model, where they are pinned too. */
  readonly model?: LockedModel;
  readonly kernels: Readonly<Record<string, LockedKernel>>;
}

export interface LockedModel {
  /** For people: the folder's or checkpoint's name. */
  readonly name: string;
  readonly files: readonly (Pin & { readonly path: string })[];
}

/** One difference between two locks. `trust` changes (signer, builder, source, registry, policy) want a person's yes. */
export interface Change {
  readonly kernel: string | null;
  readonly what:
    | "auditors"
    | "advisories"
    | "model"
    | "added"
    | "removed"
    | "version"
    | "content"
    | "signers"
    | "builder"
    | "source"
    | "variants"
    | "registry"
    | "policy";
  readonly trust: boolean;
  readonly before: unknown;
  readonly after: unknown;
}

export interface Progress {
  /** What is going on: "kernlock/mxfp4 0.1.0 linux-x86_64-cpu-v3/mxfp4.so". */
  readonly what: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly doneFiles: number;
  readonly totalFiles: number;
}

export interface KernelReport {
  readonly name: string;
  readonly version: string;
  readonly ok: boolean;
  readonly verdict: Verdict | null;
  readonly filesChecked: number;
  readonly problems: readonly KernlockError[];
}

export interface VerifyReport {
  readonly ok: boolean;
  /** The lock was made under another policy than the one that judged now; refused only when frozen. */
  readonly policyChanged: boolean;
  readonly problems: readonly KernlockError[];
  readonly kernels: readonly KernelReport[];
}

/** What the loader must know of this machine; a larger description fits too. */
export interface LoadMachine {
  readonly os: string;
  readonly arch: string;
  readonly libc: { readonly family: string; readonly version: string };
  /** x86-64 microarchitecture level, for instance "x86-64-v3". */
  readonly cpu: { readonly level: string };
  /** Absent where there is no CUDA driver. */
  readonly cuda?: { readonly architectures: readonly string[]; readonly driver: string };
}

export interface SealedFile extends Pin {
  readonly path: string;
  readonly kind: VariantFile["kind"];
  /** A sealed memory file. Keep it open as long as anything loaded from it lives. */
  readonly fd: number;
}

export interface SealedKernel {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  readonly manifest: Digest;
  readonly variantKey: string;
  readonly variant: Variant;
  readonly signers: readonly string[];
  /** What the policy permits of the package. */
  readonly permits: { readonly untested: boolean; readonly ptx: boolean };
  /** The payload files. */
  readonly files: readonly SealedFile[];
}

/** A locked variant that was not loaded, and why: nothing is left out in silence. */
export interface SkippedVariant {
  readonly name: string;
  readonly version: string;
  readonly variant: string;
  readonly code: ErrorCode;
  readonly reason: string;
}

/** One line of the audit trail; one for each kernel variant that was loaded or refused. */
export interface AuditLine {
  readonly time: string;
  readonly event: "load";
  readonly kernel: string;
  readonly version: string;
  readonly variant: string | null;
  readonly index: Digest;
  readonly manifest: Digest | null;
  readonly files: readonly { readonly path: string; readonly digest: Digest }[];
  readonly signers: readonly string[];
  readonly builder: string;
  readonly policy: Digest;
  /** The policy above the project's, where there is one. */
  readonly operatorPolicy?: Digest;
  /** "break-glass" where only a signed order let it pass, with the digests of what was signed. */
  readonly mode?: "break-glass";
  readonly waivers?: readonly Digest[];
  readonly lockPolicy: Digest;
  /**
   * Where no GPU of this machine runs the variant's machine code: its PTX, which the driver compiles here. The digests
   * above cover that text, and none covers what is made of it.
   */
  readonly compiledHere?: readonly string[];
  readonly verdict: "allow" | "refuse";
  readonly code?: ErrorCode;
}

export interface Loaded {
  readonly kernels: readonly SealedKernel[];
  readonly skipped: readonly SkippedVariant[];
  readonly verdicts: ReadonlyMap<string, Verdict>;
  readonly audit: readonly AuditLine[];
  /** Closes every descriptor; only after everything that was loaded from them is gone. */
  close(): void;
}
