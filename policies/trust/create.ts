import { fail } from "@kernlock/kernels/format";
import { calls, checkCall } from "./border.ts";
import { fingerprintOf, isSupportedKey } from "./keys.ts";
import type { Signer } from "./types.ts";

export const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
export const payloadType = "application/vnd.in-toto+json";

/** What a DSSE signature is made over (DSSE v1, "PAE"). */
function preAuthenticationEncoding(type: string, payload: Uint8Array): Uint8Array {
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.byteLength} `, "utf8"),
    payload,
  ]);
}

/**
 * Signs an in-toto statement, whose bytes stay as they are, and returns a Sigstore bundle v0.3 (JSON, UTF-8).
 * There is no `keyid`: cosign refuses bundles whose keyid is not the one it computes, and the field is not signed.
 * KL_BUNDLE_KEY: the signer's key is neither ECDSA P-256 nor Ed25519.
 */
export async function createBundle(statement: Uint8Array, signer: Signer): Promise<Uint8Array> {
  checkCall("createBundle", calls.createBundle, { statement, signer });
  if (!isSupportedKey(signer.publicKey)) {
    fail("KL_BUNDLE_KEY", "The signing key is neither ECDSA P-256 nor Ed25519.", {
      remedy: "Make a key with `kernlock keys`, or use one of these two kinds.",
    });
  }
  const signature = await signer.sign(preAuthenticationEncoding(payloadType, statement));
  const hint = Buffer.from(fingerprintOf(signer.publicKey).slice("sha256:".length), "hex").toString("base64");
  return Buffer.from(
    JSON.stringify({
      mediaType: bundleMediaType,
      verificationMaterial: { publicKey: { hint } },
      dsseEnvelope: {
        payload: Buffer.from(statement).toString("base64"),
        payloadType,
        signatures: [{ sig: Buffer.from(signature).toString("base64") }],
      },
    }),
  );
}
