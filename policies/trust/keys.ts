import { createPublicKey, type KeyObject } from "node:crypto";
import { type Digest, digestOf, fail } from "@kernlock/kernels/format";
import { calls, checkCall, given } from "./border.ts";
import type { TrustedKey } from "./types.ts";

/** The identity of a key: sha256 of its SPKI DER. */
export function fingerprintOf(key: KeyObject): Digest {
  checkCall("fingerprintOf", given.publicKey, key);
  return digestOf(key.export({ type: "spki", format: "der" }));
}

/** ECDSA P-256 and Ed25519 are the algorithms of this product; everything else is refused. */
export function isSupportedKey(key: KeyObject): boolean {
  switch (key?.asymmetricKeyType) {
    case "ed25519":
      return true;
    case "ec":
      return key.asymmetricKeyDetails?.namedCurve === "prime256v1";
    default:
      return false;
  }
}

/** A trusted key from an SPKI PEM. KL_POLICY_KEY: not a public key of a supported kind, or a window that never opens. */
export function trustedKey(id: string, pem: string, window: { validFrom?: Date; validUntil?: Date } = {}): TrustedKey {
  checkCall("trustedKey", calls.trustedKey, { id, pem, window });
  const refuse = (what: string): never =>
    fail("KL_POLICY_KEY", `The key "${id}" ${what}.`, {
      remedy: "Give an SPKI PEM (BEGIN PUBLIC KEY) of an ECDSA P-256 or Ed25519 key.",
      details: { key: id },
    });
  // The PEM label is checked because Node would also take a private key or a certificate here and derive a key from it.
  if (!/^-----BEGIN PUBLIC KEY-----\r?\n[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----\s*$/.test(pem.trimStart())) {
    refuse("is not an SPKI PEM");
  }
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey(pem);
  } catch {
    return refuse("cannot be read");
  }
  if (!isSupportedKey(publicKey)) refuse("is neither ECDSA P-256 nor Ed25519");
  const { validFrom, validUntil } = window;
  if (validFrom && validUntil && validFrom >= validUntil) refuse("has a window that ends before it begins");
  return {
    id,
    fingerprint: fingerprintOf(publicKey),
    publicKey,
    ...(validFrom ? { validFrom } : {}),
    ...(validUntil ? { validUntil } : {}),
  };
}
