import { createHash, type KeyObject, verify } from "node:crypto";
import type { MessageContent } from "../verify/bundle.ts";
import type { SignatureContent } from "../verify/prove.ts";
import { refuse } from "../verify/refusal.ts";
import { verifyDigest } from "./ecdsa.ts";

/** What was signed: its bytes, or no more than their SHA-256. */
export type Artifact = { readonly bytes: Uint8Array } | { readonly digest: Buffer };

export function digestOfArtifact(artifact: Artifact): Buffer {
  return "digest" in artifact ? artifact.digest : createHash("sha256").update(artifact.bytes).digest();
}

/**
 * A message signature over an artifact. The digest in the bundle is compared with the artifact's own, log or no log
 * (G12). KL_BUNDLE_ARTIFACT: it is about another artifact, or its key signs bytes where only their digest is known.
 */
export function messageContent(content: MessageContent, artifact: Artifact): SignatureContent {
  const digest = digestOfArtifact(artifact);
  if (!digest.equals(content.digest)) refuse("KL_BUNDLE_ARTIFACT", "The bundle signs another artifact.");
  const same = (other: Buffer) => other.equals(digest);
  return {
    signature: content.signature,
    compareSignature: (other) => other.equals(content.signature),
    compareDigest: same,
    compareSignedDigest: same,
    verifySignature: (key) => verifyMessage(key, content.signature, artifact),
  };
}

function verifyMessage(key: KeyObject, signature: Buffer, artifact: Artifact): boolean {
  if ("bytes" in artifact) {
    return verify(key.asymmetricKeyType === "ed25519" ? null : "sha256", artifact.bytes, key, signature);
  }
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    refuse("KL_BUNDLE_ARTIFACT", "A signature by this kind of key cannot be checked by digest: give the file.");
  }
  return verifyDigest(artifact.digest, key, signature);
}
