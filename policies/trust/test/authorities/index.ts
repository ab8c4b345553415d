import { createHash, type KeyObject, sign } from "node:crypto";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot as TrustedRootMessage } from "@sigstore/protobuf-specs";
import { type KeyFinderFunc, toSignedEntity, toTrustMaterial, Verifier, type VerifierOptions } from "@sigstore/verify";
import { bundleMediaType, payloadType } from "../../create.ts";
import { fingerprintOf } from "../../keys.ts";
import { parseTrustedRoot, type TrustedRoot } from "../../verify/root.ts";
import type { ProofDemand, TrustedIdentity } from "../../verify/types.ts";
import { statement } from "../material.ts";
import { type CertificateParts, type Certified, certify, spki, uri, usage } from "./certificates.ts";
import { newLog, type Signed, type TestLog } from "./logs.ts";
import { newStampAuthority, type StampAuthority } from "./timestamps.ts";

export const san = "https://ci.example/acme/norm/release.yml@refs/heads/main";
export const issuer = "https://login.example";
export const signedAt = new Date("2026-06-01T12:05:00Z");
const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

/** A private Sigstore: certificate authority, timestamp authority, a Rekor v2 and a Rekor v1. */
export interface World {
  readonly ca: Certified;
  readonly tsa: StampAuthority;
  readonly log: TestLog;
  readonly oldLog: TestLog;
  /** A log of certificates, where there is one. */
  readonly ctLog?: Pick<Certified, "privateKey" | "publicKey">;
}

export function newWorld(): World {
  return {
    ca: certify({ name: "code root", ca: true }),
    tsa: newStampAuthority(),
    log: newLog("log.example"),
    oldLog: newLog("rekor.example", "p256"),
  };
}

/** A certificate that lives ten minutes around `signedAt`, unless `parts` say otherwise. */
export function newLeaf(world: Pick<World, "ca" | "ctLog">, parts: Partial<CertificateParts> = {}): Certified {
  return certify({
    name: "leaf",
    by: world.ca,
    from: new Date("2026-06-01T12:00:00Z"),
    to: new Date("2026-06-01T12:10:00Z"),
    purposes: [usage.codeSigning],
    names: [uri(san)],
    issuerUrl: issuer,
    ...(world.ctLog ? { loggedBy: world.ctLog } : {}),
    ...parts,
  });
}

// biome-ignore lint/suspicious/noExplicitAny: tests break these in ways that no type allows
export type Loose = any;

export interface BundleParts {
  /** Signs with its certificate. */
  readonly leaf?: Certified;
  /** Signs with a bare key, where there is no leaf. */
  readonly pair?: { privateKey: KeyObject; publicKey: KeyObject };
  readonly payload?: Uint8Array;
  readonly stamps?: (signature: Buffer) => Buffer[];
  readonly entries?: (signed: Signed) => Loose[];
}

export function newBundle(parts: BundleParts): Loose {
  const pair = (parts.leaf ?? parts.pair)!;
  const payload = Buffer.from(parts.payload ?? statement());
  const preimage = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
    payload,
  ]);
  const signature = sign(pair.publicKey.asymmetricKeyType === "ed25519" ? null : "sha256", preimage, pair.privateKey);
  const signed = {
    preimage,
    payload,
    signature,
    key: spki(pair.publicKey),
    ...(parts.leaf ? { certificate: parts.leaf.der } : {}),
  };
  const hint = b64(Buffer.from(fingerprintOf(pair.publicKey).slice(7), "hex"));
  return {
    mediaType: bundleMediaType,
    verificationMaterial: {
      ...(parts.leaf ? { certificate: { rawBytes: b64(parts.leaf.der) } } : { publicKey: { hint } }),
      tlogEntries: parts.entries?.(signed) ?? [],
      timestampVerificationData: {
        rfc3161Timestamps: (parts.stamps?.(signature) ?? []).map((stamp) => ({ signedTimestamp: b64(stamp) })),
      },
    },
    dsseEnvelope: { payload: b64(payload), payloadType, signatures: [{ sig: b64(signature) }] },
  };
}

export const bytesOf = (json: Loose): Buffer => Buffer.from(JSON.stringify(json));

const always = { start: "2026-01-01T00:00:00Z" };

/** trusted_root.json, as an object that tests may break. */
export function newRoot(world: Partial<World>, windows: { log?: object; tsa?: object; ca?: object } = {}): Loose {
  const authority = (chain: readonly Buffer[], validFor: object = always) => ({
    subject: { organization: "example", commonName: "example" },
    uri: "https://authority.example",
    certChain: { certificates: chain.map((der) => ({ rawBytes: b64(der) })) },
    validFor,
  });
  const log = ({ name, id, publicKey, keyDetails }: TestLog) => ({
    baseUrl: `https://${name}`,
    hashAlgorithm: "SHA2_256",
    publicKey: { rawBytes: b64(spki(publicKey)), keyDetails, validFor: windows.log ?? always },
    logId: { keyId: b64(id) },
  });
  const certificateLog = ({ publicKey }: { publicKey: KeyObject }) => ({
    baseUrl: "https://ct.example",
    hashAlgorithm: "SHA2_256",
    publicKey: { rawBytes: b64(spki(publicKey)), keyDetails: "PKIX_ECDSA_P256_SHA_256", validFor: always },
    logId: { keyId: b64(createHash("sha256").update(spki(publicKey)).digest()) },
  });
  return {
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [world.log, world.oldLog].flatMap((each) => (each ? [log(each)] : [])),
    certificateAuthorities: world.ca ? [authority([world.ca.der], windows.ca)] : [],
    ctlogs: world.ctLog ? [certificateLog(world.ctLog)] : [],
    timestampAuthorities: world.tsa ? [authority(world.tsa.chain, windows.tsa)] : [],
  };
}

export function trustedRoot(world: Partial<World>, windows: Parameters<typeof newRoot>[1] = {}): TrustedRoot {
  return parseTrustedRoot(bytesOf(newRoot(world, windows)));
}

export function identity(
  root: TrustedRoot,
  parts: Partial<TrustedIdentity> & { demand?: ProofDemand } = {},
): TrustedIdentity {
  return { id: "release", issuer, san, root, ...parts };
}

/** What @sigstore/verify says by itself, without our checks around it: that a gap is one. */
export function stockAccepts(
  bundle: Loose,
  root: Loose,
  keys?: KeyFinderFunc,
  thresholds: VerifierOptions = {},
): boolean {
  const material = toTrustMaterial(TrustedRootMessage.fromJSON(root), keys);
  const options = { tlogThreshold: 0, timestampThreshold: 0, ctlogThreshold: 0, ...thresholds };
  try {
    new Verifier(material, options).verify(toSignedEntity(bundleFromJSON(bundle)));
    return true;
  } catch {
    return false;
  }
}
