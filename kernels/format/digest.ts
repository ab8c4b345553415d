import { createHash } from "node:crypto";
import { fail } from "./errors.ts";

/** `sha256:` and 64 lower-case hex digits. */
export type Digest = `sha256:${string}`;

const pattern = /^sha256:[0-9a-f]{64}$/;

export function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && pattern.test(value);
}

/** Throws `KL_FORMAT_DIGEST`. */
export function parseDigest(value: unknown): Digest {
  if (isDigest(value)) return value;
  return fail("KL_FORMAT_DIGEST", "A digest is not of the form sha256:<64 lower-case hex digits>.", {
    remedy: "Give the digest as it was printed, with its sha256: prefix.",
  });
}

/** The SHA-256 digest of some bytes; a string counts as UTF-8. */
export function digestOf(data: Uint8Array | string): Digest {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}

/** The 64 hex digits of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice("sha256:".length);
}
