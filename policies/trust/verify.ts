import { digestOf, KernlockError } from "@kernlock/kernels/format";
import { calls, checkCall } from "./border.ts";
import { isSupportedKey } from "./keys.ts";
import type { TrustedKey } from "./types.ts";
import { type DsseContent, type ParsedBundle, parseBundle } from "./verify/bundle.ts";
import { readLeaf } from "./verify/certificate.ts";
import { type Proof, prove } from "./verify/prove.ts";
import { bounded, refuse } from "./verify/refusal.ts";
import { checkKeyWindow, demandOf, findIdentities, findKey } from "./verify/signer.ts";
import { readStatement } from "./verify/statement.ts";
import type { Anchor, SignedStatement, StatementSigner, TrustedIdentity, TrustedTime } from "./verify/types.ts";

export interface VerifyOptions {
  readonly keys: Iterable<TrustedKey>;
  /** Certificate identities; without any, a bundle that rests on a certificate is refused. */
  readonly identities?: Iterable<TrustedIdentity>;
  /** Whose timestamps and log entries count for bundles signed with a key; without it, bundles with such are refused. */
  readonly anchor?: Anchor;
  readonly now: Date;
}

/**
 * Verifies a Sigstore bundle under the strict profile: media type exactly v0.3, one DSSE signature over an in-toto
 * statement (v0.1 or v1), by a key of `keys` or by a certificate of `identities`, valid at every proved time, or at
 * `now` where none is proved. What the bundle says about who signed it is a lookup only; nothing in it that is not
 * signed has any effect.
 *
 * Throws KL_BUNDLE_* (docs/security/verifier.md lists them), and KL_CALL_ARGUMENT for a call that no bundle can answer.
 */
export function verifyBundle(
  bytes: Uint8Array,
  options: VerifyOptions & { readonly identities?: never },
): SignedStatement;
export function verifyBundle(bytes: Uint8Array, options: VerifyOptions): SignedStatement<StatementSigner>;
export function verifyBundle(bytes: Uint8Array, options: VerifyOptions): SignedStatement<StatementSigner> {
  checkCall("verifyBundle", calls.verifyBundle, { ...options, bytes });
  return bounded(bytes, (bundleDigest) => {
    const bundle = parseBundle(bytes, "kernlock");
    const { signer, times, logged } =
      bundle.material.kind === "key"
        ? proveKey(bundle, bundle.material.hint, options)
        : proveIdentity(bundle, bundle.material.der, options);
    const { payload } = bundle.content as DsseContent;
    return {
      signer,
      payloadDigest: digestOf(payload),
      bundleDigest,
      bundleSize: bytes.byteLength,
      times,
      ...earliest(times),
      logged,
      statement: readStatement(payload),
    };
  });
}

function earliest(times: readonly TrustedTime[]): { trustedTime?: Date } {
  const [first] = times.map(({ time }) => time).sort((a, b) => a.getTime() - b.getTime());
  return first === undefined ? {} : { trustedTime: first };
}

type Proved = Proof & { readonly signer: StatementSigner };

function proveKey(bundle: ParsedBundle, hint: string, { keys, anchor, now }: VerifyOptions): Proved {
  const key = findKey(keys, hint);
  const claim = { kind: "key", key: key.publicKey } as const;
  const proof = prove({ bundle, claim, root: anchor?.root, demand: anchor?.demand ?? {}, now });
  checkKeyWindow(key, proof.times, now);
  return { ...proof, signer: { kind: "key", fingerprint: key.fingerprint, keyId: key.id } };
}

function proveIdentity(bundle: ParsedBundle, der: Buffer, { identities, now }: VerifyOptions): Proved {
  const leaf = readLeaf(der);
  const candidates = findIdentities([...(identities ?? [])], leaf);
  if (!isSupportedKey(leaf.publicKey)) {
    refuse("KL_BUNDLE_KEY", "The certificate's key is neither ECDSA P-256 nor Ed25519.");
  }
  const claim = { kind: "certificate", leaf } as const;
  // One person may be known under several roots; each root proves with its own authorities only.
  let refusal: unknown;
  for (const identity of candidates) {
    try {
      const proof = prove({ bundle, claim, root: identity.root, demand: demandOf(identity), now });
      const { id, issuer, san, root } = identity;
      return { ...proof, signer: { kind: "identity", identityId: id, issuer, san, root: root.digest } };
    } catch (error) {
      if (!(error instanceof KernlockError)) throw error;
      refusal ??= error;
    }
  }
  throw refusal;
}
