import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { canonicalJson } from "@kernlock/kernels/format";
import { newPair, spki } from "./certificates.ts";

const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();
const leafHash = (leaf: Uint8Array) => sha256(Buffer.from([0]), leaf);
const nodeHash = (left: Buffer, right: Buffer) => sha256(Buffer.from([1]), left, right);
const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
export const raw = (key: KeyObject) => Buffer.from(key.export({ format: "jwk" }).x as string, "base64url");

/** RFC 6962, section 2.1: the largest power of two below n. */
const split = (n: number) => 2 ** Math.floor(Math.log2(n - 1));

function treeHash(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 1) return leafHash(leaves[0]!);
  const k = split(leaves.length);
  return nodeHash(treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

function path(index: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return index < k
    ? [...path(index, leaves.slice(0, k)), treeHash(leaves.slice(k))]
    : [...path(index - k, leaves.slice(k)), treeHash(leaves.slice(0, k))];
}

/** What an entry is about. */
export interface Signed {
  readonly preimage: Buffer;
  readonly payload: Buffer;
  readonly signature: Buffer;
  /** DER of the signer's certificate or key. */
  readonly certificate?: Buffer;
  readonly key: Buffer;
}

// biome-ignore lint/suspicious/noExplicitAny: entries are edited by tests in ways that no type allows
type Entry = any;

export interface TestLog {
  readonly name: string;
  readonly id: Buffer;
  readonly publicKey: KeyObject;
  readonly keyDetails: string;
  /** A Rekor v2 entry: proof and checkpoint, no time. */
  entry(
    signed: Signed,
    options?: { extra?: (note: string) => string; note?: (note: string) => string; body?: unknown },
  ): Entry;
  /** A Rekor v1 entry: a promise with a time besides. */
  promised(signed: Signed, at: Date): Entry;
}

/** A transparency log of its own key with a few leaves. */
export function newLog(name: string, kind: "ed25519" | "p256" = "ed25519"): TestLog {
  const { privateKey, publicKey } = kind === "ed25519" ? generateKeyPairSync("ed25519") : newPair();
  const id = kind === "ed25519" ? sha256(Buffer.from(`${name}\n\u0001`), raw(publicKey)) : sha256(spki(publicKey));
  const signNote = (note: string) => sign(kind === "ed25519" ? null : "sha256", Buffer.from(note), privateKey);
  const include = (
    body: Buffer,
    index: number,
    origin: string,
    extra: (note: string) => string,
    change = (note: string) => note,
  ) => {
    const leaves = Array.from({ length: 13 }, (_, i) => (i === index ? body : randomBytes(32)));
    const root = treeHash(leaves);
    const note = change(`${origin}\n${leaves.length}\n${b64(root)}\n`);
    const signature = b64(Buffer.concat([id.subarray(0, 4), signNote(note)]));
    return {
      logIndex: String(index),
      rootHash: b64(root),
      treeSize: String(leaves.length),
      hashes: path(index, leaves).map(b64),
      checkpoint: { envelope: `${note}\n\u2014 ${name} ${signature}\n${extra(note)}` },
    };
  };
  return {
    name,
    id,
    publicKey,
    keyDetails: kind === "ed25519" ? "PKIX_ED25519" : "PKIX_ECDSA_P256_SHA_256",
    entry(signed, options = {}) {
      const verifier = signed.certificate
        ? { x509Certificate: { rawBytes: b64(signed.certificate) } }
        : { publicKey: { rawBytes: b64(signed.key) } };
      const body = options.body ?? {
        apiVersion: "0.0.2",
        kind: "hashedrekord",
        spec: {
          hashedRekordV002: {
            data: { algorithm: "SHA2_256", digest: b64(sha256(signed.preimage)) },
            signature: {
              content: b64(signed.signature),
              verifier: { keyDetails: "PKIX_ECDSA_P256_SHA_256", ...verifier },
            },
          },
        },
      };
      const bytes = Buffer.from(canonicalJson(body));
      return {
        logIndex: "5",
        logId: { keyId: b64(id) },
        kindVersion: { kind: "hashedrekord", version: "0.0.2" },
        inclusionProof: include(bytes, 5, name, options.extra ?? (() => ""), options.note),
        canonicalizedBody: b64(bytes),
      };
    },
    promised(signed, at) {
      const label = signed.certificate ? "CERTIFICATE" : "PUBLIC KEY";
      const base = b64(signed.certificate ?? signed.key).replaceAll(/.{64}/g, "$&\n");
      const pem = `-----BEGIN ${label}-----\n${base}\n-----END ${label}-----\n`;
      const body = Buffer.from(
        canonicalJson({
          apiVersion: "0.0.1",
          kind: "dsse",
          spec: {
            payloadHash: { algorithm: "sha256", value: sha256(signed.payload).toString("hex") },
            signatures: [{ signature: b64(signed.signature), verifier: b64(Buffer.from(pem)) }],
          },
        }),
      );
      const integratedTime = Math.floor(at.getTime() / 1000);
      const promise = { body: b64(body), integratedTime, logID: id.toString("hex"), logIndex: 1007 };
      return {
        logIndex: "1007",
        logId: { keyId: b64(id) },
        kindVersion: { kind: "dsse", version: "0.0.1" },
        integratedTime: String(integratedTime),
        inclusionPromise: { signedEntryTimestamp: b64(signNote(canonicalJson(promise))) },
        inclusionProof: include(body, 7, `${name} - 4711`, () => ""),
        canonicalizedBody: b64(body),
      };
    },
  };
}

export interface TestWitness {
  readonly name: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  cosign(note: string, at: Date): string;
}

/** A witness that cosigns checkpoints (C2SP tlog-cosignature v1). */
export function newWitness(
  name: string,
  pair: { privateKey: KeyObject; publicKey: KeyObject } = generateKeyPairSync("ed25519"),
): TestWitness {
  const { privateKey, publicKey } = pair;
  const id = sha256(Buffer.from(`${name}\n\u0004`), raw(publicKey)).subarray(0, 4);
  return {
    name,
    privateKey,
    publicKey,
    cosign(note, at) {
      const seconds = Math.floor(at.getTime() / 1000);
      const stamp = Buffer.alloc(8);
      stamp.writeBigUInt64BE(BigInt(seconds));
      const signature = sign(null, Buffer.from(`cosignature/v1\ntime ${seconds}\n${note}`), privateKey);
      return `\u2014 ${name} ${b64(Buffer.concat([id, stamp, signature]))}\n`;
    },
  };
}
