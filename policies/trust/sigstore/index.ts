import { createPublicKey, type KeyObject } from "node:crypto";
import { type Digest, fail } from "@kernlock/kernels/format";
import { z } from "zod";
import { calls, checkCall, given } from "../border.ts";
import { fingerprintOf } from "../keys.ts";
import { parseBundle } from "../verify/bundle.ts";
import { type Leaf, readLeaf } from "../verify/certificate.ts";
import { type Claim, prove } from "../verify/prove.ts";
import { bounded, refuse } from "../verify/refusal.ts";
import { parseRoot, type TrustedRoot } from "../verify/root.ts";
import { readStatement } from "../verify/statement.ts";
import type { LoggedEntry, TrustedTime } from "../verify/types.ts";
import { type Artifact, digestOfArtifact, messageContent } from "./content.ts";

export type { Artifact } from "./content.ts";

/** Who must have signed. There is no way to ask for anybody (G1). */
export type ExpectedSigner = { readonly key: KeyObject } | { readonly identity: string; readonly issuer: string };

const call = z.object({
  bytes: given.bytes,
  signer: z.union([z.object({ key: given.publicKey }), z.object({ identity: given.text, issuer: given.text })]),
  root: z.object({ logs: z.array(z.unknown()) }),
  artifact: z.union([z.object({ bytes: given.bytes }), z.object({ digest: z.instanceof(Buffer) })]),
  now: given.date,
});

export interface SigstoreVerdict {
  readonly bundleDigest: Digest;
  readonly signer: { readonly key: Digest } | { readonly identity: string; readonly issuer: string };
  readonly artifact: Digest;
  /** Null for a message signature. */
  readonly predicateType: string | null;
  readonly times: readonly TrustedTime[];
  readonly logged: readonly LoggedEntry[];
}

/**
 * The profile of the public Sigstore clients: bundles v0.1 to v0.3, DSSE and message signatures, one proved time, one
 * log entry, and for certificates one certificate log. For `kernlock verify-bundle` alone; nothing that decides whether
 * a kernel is loaded or published may use it. Throws KL_BUNDLE_*.
 */
export function verifySigstore(
  bytes: Uint8Array,
  options: {
    readonly signer: ExpectedSigner;
    readonly root: TrustedRoot;
    readonly artifact: Artifact;
    readonly now: Date;
  },
): SigstoreVerdict {
  checkCall("verifySigstore", call, { ...options, bytes });
  return bounded(bytes, (bundleDigest) => {
    const { signer, root, artifact, now } = options;
    const bundle = parseBundle(bytes, "sigstore");
    const { content, material } = bundle;
    const claim = claimOf(material, signer);
    const demand = { times: 1, logEntries: 1, certificateLogs: claim.kind === "certificate" ? 1 : 0 };
    const message = content.kind === "message" ? { content: messageContent(content, artifact) } : {};
    const { times, logged } = prove({ bundle, claim, root, demand, now, ...message });

    const digest = digestOfArtifact(artifact).toString("hex");
    const statement = content.kind === "dsse" ? readStatement(content.payload) : null;
    if (statement !== null && !statement.subject.some((subject) => subject.digest.sha256 === digest)) {
      refuse("KL_BUNDLE_ARTIFACT", "The artifact is not a subject of the statement.");
    }
    return {
      bundleDigest,
      signer: "key" in signer ? { key: fingerprintOf(signer.key) } : signer,
      artifact: `sha256:${digest}` as Digest,
      predicateType: statement?.predicateType ?? null,
      times,
      logged,
    };
  });
}

function claimOf(material: ReturnType<typeof parseBundle>["material"], signer: ExpectedSigner): Claim {
  if ("key" in signer) {
    if (material.kind !== "key") refuse("KL_BUNDLE_MATERIAL", "The bundle rests on a certificate, not on the key.");
    // The hint is whatever its writer liked; the caller's key decides.
    return { kind: "key", key: signer.key };
  }
  if (material.kind !== "certificate") refuse("KL_BUNDLE_MATERIAL", "The bundle rests on a key, not on a certificate.");
  const leaf = readLeaf(material.der);
  checkIdentity(leaf, signer);
  return { kind: "certificate", leaf };
}

function checkIdentity(leaf: Leaf, { identity, issuer }: { identity: string; issuer: string }): void {
  if (identity === "" || issuer === "" || leaf.san !== identity || leaf.issuer !== issuer) {
    refuse("KL_BUNDLE_IDENTITY", "The bundle is signed by another identity.", { issuer: leaf.issuer, san: leaf.san });
  }
}

/** A trusted root as Sigstore publishes it. KL_ROOT_*. */
export function parseSigstoreRoot(bytes: Uint8Array): TrustedRoot {
  return parseRoot(bytes, "sigstore");
}

/** A public key in SPKI PEM. KL_BUNDLE_KEY. */
export function parseSigstoreKey(pem: string): KeyObject {
  checkCall("parseSigstoreKey", calls.text, { text: pem });
  try {
    if (/^-----BEGIN PUBLIC KEY-----\r?\n[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----\s*$/.test(pem.trimStart())) {
      return createPublicKey(pem);
    }
  } catch {
    // Refused below, like everything that is no key.
  }
  return fail("KL_BUNDLE_KEY", "The key is not a public key in PEM.", {
    remedy: "Give a file that begins with `-----BEGIN PUBLIC KEY-----`.",
  });
}
