import type { Hash } from "node:crypto";
import type { Digest } from "../format/index.ts";
import type { Descriptor } from "./documents.ts";

export interface RegistryClientOptions {
  /** `https://host[:port]` or `http://host[:port]`, nothing after it. */
  readonly origin: string;
  /** Bearer token; sent to this origin only, never shown in an error. */
  readonly token?: string | undefined;
  /** PEM of certificate authorities to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** Longest wait for an answer, and for the next bytes of a body. Default 30 s. */
  readonly timeoutMs?: number;
}

export interface FetchedManifest {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
}

export interface BlobStreamOptions {
  /** Size the blob must have; more or fewer bytes are refused. */
  readonly size?: number;
  /** Start here, to go on with a download that was cut short. */
  readonly offset?: number;
  /** A SHA-256 that has taken the first `offset` bytes. Without it, a stream with an offset is not checked by digest: check the whole file. */
  readonly hash?: Hash;
  readonly signal?: AbortSignal;
}

/** A client of one OCI registry (distribution 1.1). Everything it returns has been checked against its digest. Throws `KL_OCI_*`. */
export class RegistryClient {
  readonly origin: string;
  constructor(options: RegistryClientOptions) {
    this.origin = options.origin;
  }
  /** By tag or digest. */
  getManifest(_repo: string, _reference: string): Promise<FetchedManifest> {
    throw new Error("to come");
  }
  /** The blob's bytes; throws at its end where digest or size is another. Goes on by Range after a cut connection. */
  blobStream(_repo: string, _digest: Digest, _options: BlobStreamOptions = {}): AsyncIterable<Uint8Array> {
    throw new Error("to come");
  }
  /** A whole blob in memory, at most `maxBytes` (default 16 MiB). */
  getBlob(_repo: string, _digest: Digest, _options: { size?: number; maxBytes?: number } = {}): Promise<Uint8Array> {
    throw new Error("to come");
  }
  hasBlob(_repo: string, _digest: Digest): Promise<boolean> {
    throw new Error("to come");
  }
  /** Uploads unless the registry has it. A stream needs its size. */
  putBlob(
    _repo: string,
    _digest: Digest,
    _data: Uint8Array | { stream: AsyncIterable<Uint8Array>; size: number },
  ): Promise<void> {
    throw new Error("to come");
  }
  /** `reference` is a tag or the digest of `bytes`. */
  putManifest(_repo: string, _reference: string, _bytes: Uint8Array, _mediaType: string): Promise<Digest> {
    throw new Error("to come");
  }
  tags(_repo: string): Promise<string[]> {
    throw new Error("to come");
  }
  referrers(_repo: string, _digest: Digest, _artifactType?: string): Promise<Descriptor[]> {
    throw new Error("to come");
  }
  close(): Promise<void> {
    throw new Error("to come");
  }
}
