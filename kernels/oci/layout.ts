import type { Digest } from "../format/index.ts";
import type { Descriptor } from "./documents.ts";

/** An OCI image layout in a folder. Writes are atomic (temporary file, fsync, rename); reads are checked. Throws `KL_OCI_*`. */
export class OciLayout {
  readonly folder: string;
  private constructor(folder: string) {
    this.folder = folder;
  }
  /** Makes the layout, or opens the one that is there. */
  static create(_folder: string): Promise<OciLayout> {
    throw new Error("to come");
  }
  static open(_folder: string): Promise<OciLayout> {
    throw new Error("to come");
  }
  blobPath(_digest: Digest): string {
    throw new Error("to come");
  }
  hasBlob(_digest: Digest): Promise<boolean> {
    throw new Error("to come");
  }
  putBlob(_bytes: Uint8Array): Promise<Digest> {
    throw new Error("to come");
  }
  /** Whole and checked against its digest; at most `maxBytes` (default 1 GiB). */
  getBlob(_digest: Digest, _options: { maxBytes?: number } = {}): Promise<Uint8Array> {
    throw new Error("to come");
  }
  /** Stores a manifest or index and enters it in index.json, under a tag where one is given. */
  putManifest(_bytes: Uint8Array, _options: { mediaType: string; tag?: string }): Promise<Descriptor> {
    throw new Error("to come");
  }
  /** Entries of index.json; a tag is the annotation `org.opencontainers.image.ref.name`. */
  entries(): Promise<Descriptor[]> {
    throw new Error("to come");
  }
  tags(): Promise<string[]> {
    throw new Error("to come");
  }
  resolve(_tag: string): Promise<Descriptor> {
    throw new Error("to come");
  }
  /** Manifests of index.json whose subject is `digest`. */
  referrers(_digest: Digest, _artifactType?: string): Promise<Descriptor[]> {
    throw new Error("to come");
  }
}
