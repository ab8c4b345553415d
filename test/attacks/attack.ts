/**
 * What an attack is, as plain data. A case says what it would slip in and what must refuse it; `places.ts` does it for
 * real. Cases import nothing of the test runner, so that the table in docs/security/attacks.md can be made from them.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Digest, ErrorCode } from "@kernlock/kernels/format";
import type { LoadMachine } from "@kernlock/loader";
import type { TestKey } from "../../policies/trust/test/material.ts";
import type { Pack } from "./pack.ts";
import type { Place, Server } from "./places.ts";

// biome-ignore lint/suspicious/noExplicitAny: attackers write JSON that no type allows
export type Loose = any;

/** Changes a document in place, or returns other bytes for it. `at` is a variant's key or "index". */
export type Edit = (document: Loose, at: string) => unknown;

/** The keys of a case. `publisher` is the one whom policies trust. */
export interface Keys {
  readonly publisher: TestKey;
  readonly other: TestKey;
  readonly auditor: TestKey;
  readonly second: TestKey;
}

/**
 * A hostile package, lock, cache or policy. Whatever is changed, everything that names it is hashed, locked and signed
 * anew, so that what refuses is the check under test and no digest before it. Edits concern the variant cpu-v3, unless
 * they look at `at` themselves.
 */
export interface Twist {
  readonly name?: string;
  readonly version?: string;
  /** The shared object of cpu-v3. */
  readonly payload?: Uint8Array;
  /** A device image: then the hostile variant is a CUDA one, cuda-sm90a, beside cpu-v4. */
  readonly image?: Uint8Array;
  readonly config?: Edit;
  readonly manifest?: Edit;
  readonly index?: Edit;
  readonly statement?: Edit;
  readonly bundle?: Edit;
  readonly signer?: TestKey;
  /** Instead of, or besides, the provenance that a package has. */
  readonly evidence?: (pack: Pack, keys: Keys) => readonly Attached[] | Promise<readonly Attached[]>;
  /** kernels.policy.yaml of clients, and of the namespace at a publish. */
  readonly policy?: (keys: Keys) => string;
  /** What the policy names: feeds by id, exceptions. */
  readonly documents?: (pack: Pack, keys: Keys) => Promise<Documents> | Documents;
  /** The lock, once it pins all of the above. */
  readonly lock?: (lock: Loose, pack: Pack) => unknown;
  readonly spoil?: (pathOf: (digest: Digest) => string, pack: Pack) => void;
  /** Answers a blob's request in the registry's place; true when it has. */
  readonly serve?: (pack: Pack, request: IncomingMessage, response: ServerResponse, digest: string) => boolean;
  readonly now?: Date;
  readonly frozen?: boolean;
  readonly machine?: Partial<LoadMachine>;
  /** Runs between sealing and hashing. */
  readonly onSealed?: (pathOf: (digest: Digest) => string, pack: Pack) => void;
}

export interface Attached {
  readonly subject: Digest;
  readonly bundle: Uint8Array;
}

export interface Documents {
  readonly feeds?: Readonly<Record<string, Uint8Array>>;
  readonly exceptions?: readonly Uint8Array[];
  readonly seen?: Readonly<Record<string, number>>;
}

/** An attack that is a conversation with a registry server, which has to answer with a refusal. */
export interface Strike {
  /** What a registry must have before; then the blow itself, which gives the answer that must be a refusal. */
  readonly strike: (server: Server, keys: Keys) => Promise<() => Promise<Response | string>>;
}

export interface Attack {
  /** In the list of the research; "own" for ours. */
  readonly number: number | "own";
  readonly name: string;
  readonly area: Area;
  readonly refused: Partial<Record<Place, ErrorCode>>;
  readonly how: (keys: Keys) => Twist | Strike;
}

export const areas = {
  names: "Paths, names and counts",
  evidence: "Signatures and attestations",
  policy: "Policy: audits, advisories, revocations, exceptions",
  versions: "Documents of a version: index, manifests, variant.json",
  lock: "Lock",
  cache: "Cache and sealing",
  download: "Registry that lies to a client",
  elf: "Machine code: ELF",
  device: "Machine code: cubin, fatbin, launch data",
  upload: "Uploads and publishing",
} as const;
export type Area = keyof typeof areas;

export const isStrike = (how: Twist | Strike): how is Strike => "strike" in how;

/** At every place that looks at evidence or documents. */
export const everywhere = (code: ErrorCode): Attack["refused"] => ({
  publish: code,
  lock: code,
  verify: code,
  load: code,
});
/** Where only a locked kernel is looked at. */
export const pinned = (code: ErrorCode): Attack["refused"] => ({ verify: code, load: code });
/** Where machine code is read. */
export const inspected = (code: ErrorCode): Attack["refused"] => ({ publish: code, load: code });
