/** Content is named by sha256; sha512 is taken where a client names it so. */
import { createHash } from "node:crypto";

export type Algorithm = "sha256" | "sha512";
export type ContentDigest = `${Algorithm}:${string}`;

const pattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isContentDigest(value: unknown): value is ContentDigest {
  return typeof value === "string" && pattern.test(value);
}

export function algorithmOf(digest: ContentDigest): Algorithm {
  return digest.startsWith("sha512:") ? "sha512" : "sha256";
}

export function contentDigest(bytes: Uint8Array, algorithm: Algorithm = "sha256"): ContentDigest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}
