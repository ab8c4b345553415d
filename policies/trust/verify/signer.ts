import type { TrustedKey } from "../types.ts";
import type { Leaf } from "./certificate.ts";
import { refuse } from "./refusal.ts";
import type { ProofDemand, TrustedIdentity, TrustedTime } from "./types.ts";

/** By a Map, since the hint is attacker-controlled: names like `__proto__` find nothing here. */
export function findKey(keys: Iterable<TrustedKey>, hint: string): TrustedKey {
  const byFingerprint = new Map<string, TrustedKey>();
  for (const key of keys) byFingerprint.set(key.fingerprint, key);
  const raw = Buffer.from(hint, "base64");
  const fingerprint = `sha256:${raw.toString("hex")}`;
  const key = raw.toString("base64") === hint ? byFingerprint.get(fingerprint) : undefined;
  return (
    key ??
    refuse("KL_BUNDLE_UNKNOWN_KEY", "The bundle is signed by a key that the policy does not name.", {
      signer: raw.byteLength === 32 ? fingerprint : null,
    })
  );
}

/** The identities that say exactly what the certificate says (G1, G2); several when they differ in their root. */
export function findIdentities(identities: readonly TrustedIdentity[], leaf: Leaf): TrustedIdentity[] {
  if (identities.length === 0) {
    refuse("KL_BUNDLE_CERTIFICATE", "The bundle rests on a certificate, and the policy names no identity.");
  }
  const found = identities.filter(({ issuer, san }) => issuer !== "" && issuer === leaf.issuer && san === leaf.san);
  if (found.length === 0) {
    refuse("KL_BUNDLE_IDENTITY", "The bundle is signed by an identity that the policy does not name.", {
      issuer: leaf.issuer,
      san: leaf.san,
    });
  }
  return found;
}

/** What is demanded under an identity: what its root can give, unless the policy says otherwise. */
export function demandOf({ root, demand }: TrustedIdentity): ProofDemand {
  const some = (count: number) => (count > 0 ? 1 : 0);
  return {
    times: some(root.timestampAuthorities),
    logEntries: some(root.logs.length),
    certificateLogs: some(root.certificateLogs),
    ...demand,
  };
}

/**
 * A key's window against every proved time of its signature, or against the caller's clock (G5): an expired key's
 * signature still counts when a trusted authority saw it in time.
 */
export function checkKeyWindow(key: TrustedKey, times: readonly TrustedTime[], now: Date): void {
  for (const time of times.length > 0 ? times.map((proved) => proved.time) : [now]) {
    const early = key.validFrom !== undefined && time < key.validFrom;
    const late = key.validUntil !== undefined && time >= key.validUntil;
    if (early || late) {
      const words = times.length > 0 ? (early ? "was not valid yet" : "was no longer valid") : null;
      refuse(
        "KL_BUNDLE_KEY_WINDOW",
        `The key "${key.id}" ${words ?? (early ? "is not valid yet" : "is no longer valid")}.`,
        {
          signer: key.fingerprint,
          validFrom: key.validFrom?.toISOString() ?? null,
          validUntil: key.validUntil?.toISOString() ?? null,
        },
      );
    }
  }
}
