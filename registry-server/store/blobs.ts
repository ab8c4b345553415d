/**
 * Where bytes live. A blob is put whole or not at all; it is durable before anybody may commit a row that names it, and
 * its rows are gone before its bytes go.
 */
import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { Hash } from "../native/addon.ts";
import type { Body } from "../transfers.ts";
import type { ContentDigest } from "./digests.ts";

/** Bytes on their way in. Not visible to anybody before `commit`. */
export interface Incoming {
  readonly id: string;
  /** Bytes written so far. */
  readonly size: number;
  /** Appends all of `source`; rejects with KL_REGISTRY_UPLOAD_CUT or KL_REGISTRY_BLOB_TOO_LARGE. */
  append(source: Body, limit?: number): Promise<void>;
  /**
   * Makes the bytes a blob if they hash to `expected` (KL_REGISTRY_DIGEST_MISMATCH else). `announce` is awaited when
   * they do, right before they are stored. Ends this object either way.
   */
  commit(expected: ContentDigest, announce: () => Promise<void>): Promise<{ size: number }>;
  abort(): Promise<void>;
}

export interface BlobStore {
  readonly kind: "folder" | "s3";
  begin(): Promise<Incoming>;
  /** Size in bytes, or undefined. */
  size(digest: ContentDigest): Promise<number | undefined>;
  /** Bytes `start` to `end` (inclusive). Fails as a stream when the blob is not there. */
  read(digest: ContentDigest, range?: { start: number; end: number }): Readable;
  readAll(digest: ContentDigest): Promise<Buffer>;
  /** The blob as an open file, where it is one. */
  open?(digest: ContentDigest): Promise<FileHandle>;
  /** Harmless when it is not there. */
  remove(digest: ContentDigest): Promise<void>;
  /** Takes damaged bytes out of reach and keeps them for whoever looks into it. */
  setAside(digest: ContentDigest): Promise<void>;
  list(): AsyncIterable<{ digest: ContentDigest; size: number }>;
  /** An address from which a client may fetch the blob itself, where the store can sign one. */
  presign?(digest: ContentDigest, seconds: number): Promise<string>;
  /** Bytes of the disk below, where there is one. */
  room?(): Promise<{ free: number; total: number }>;
  /** Rejects when nothing can be written. */
  check(): Promise<void>;
  close?(): Promise<void>;
}

export interface StoreLimits {
  readonly maxBlobBytes: number;
  /** SHA-256 of the way that bodies are received (default: Node's). */
  readonly createHash?: () => Hash;
  /** Unfinished uploads may be another process's; else they are removed when the store is opened. */
  readonly shared?: boolean;
}
