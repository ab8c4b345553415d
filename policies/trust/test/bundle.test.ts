import { generateKeyPairSync } from "node:crypto";
import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { createBundle, fingerprintOf, verifyBundle } from "../index.ts";
import { codeOf, newKey, now, statement, type TestKey, trusted } from "./material.ts";

const key = newKey();
const good = await createBundle(statement(), key);
const verify = (bytes: Uint8Array, signer: TestKey = key, window = {}) =>
  verifyBundle(bytes, { keys: [trusted(signer, window)], now });

// biome-ignore lint/suspicious/noExplicitAny: these tests break bundles in ways that no type allows
type Broken = any;

/** The bundle with one thing in it changed. */
function edited(change: (bundle: Broken) => void): Uint8Array {
  const bundle = JSON.parse(Buffer.from(good).toString());
  change(bundle);
  return Buffer.from(JSON.stringify(bundle));
}

describe("a bundle that holds", () => {
  test.each(["p256", "ed25519"] as const)("signed with %s", async (kind) => {
    const signer = newKey(kind);
    const bytes = await createBundle(statement(), signer);
    const signed = verify(bytes, signer);
    expect(signed.signer).toEqual({
      kind: "key",
      fingerprint: fingerprintOf(signer.publicKey),
      keyId: "publisher",
    });
    expect(signed.payloadDigest).toBe(digestOf(statement()));
    expect(signed.bundleDigest).toBe(digestOf(bytes));
    expect(signed.bundleSize).toBe(bytes.byteLength);
    expect(signed.statement.subject[0]?.name).toBe("acme/norm");
  });

  test("signs the encoding that DSSE specifies", async () => {
    let encoded = "";
    const sign = async (data: Uint8Array) => {
      encoded = Buffer.from(data).toString();
      return key.sign(data);
    };
    await createBundle(Buffer.from("h\u00e9llo"), { publicKey: key.publicKey, sign });
    expect(encoded).toBe("DSSEv1 28 application/vnd.in-toto+json 6 h\u00e9llo");
  });

  test("has no keyid, and the digest of the key as its hint", () => {
    const { dsseEnvelope, verificationMaterial } = JSON.parse(Buffer.from(good).toString());
    expect(dsseEnvelope.signatures).toEqual([{ sig: expect.any(String) }]);
    const hint = Buffer.from(verificationMaterial.publicKey.hint, "base64").toString("hex");
    expect(`sha256:${hint}`).toBe(fingerprintOf(key.publicKey));
  });

  test("may say in-toto v0.1, an empty keyid and empty lists", async () => {
    const v01 = await createBundle(statement({ type: "https://in-toto.io/Statement/v0.1" }), key);
    expect(verify(v01).statement._type).toBe("https://in-toto.io/Statement/v0.1");
    const empty = edited((bundle) => {
      bundle.dsseEnvelope.signatures[0].keyid = "";
      bundle.verificationMaterial.tlogEntries = [];
      bundle.verificationMaterial.timestampVerificationData = {};
    });
    expect(verify(empty).payloadDigest).toBe(digestOf(statement()));
  });

  test("is made only with keys that verifiers know", async () => {
    const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
    const signer = { publicKey, sign: async () => new Uint8Array() };
    await expect(createBundle(statement(), signer)).rejects.toMatchObject({ code: "KL_BUNDLE_KEY" });
  });
});

describe("a hostile bundle is refused", () => {
  const message = {
    messageDigest: { algorithm: "SHA2_256", digest: Buffer.alloc(32).toString("base64") },
    signature: "AA==",
  };
  const otherHint = Buffer.alloc(32, 7).toString("base64");
  const cases: [string, string, (bundle: Broken) => void][] = [
    ["unsigned: no signature", "KL_BUNDLE_UNSIGNED", (b) => (b.dsseEnvelope.signatures = [])],
    ["unsigned: empty signature", "KL_BUNDLE_UNSIGNED", (b) => (b.dsseEnvelope.signatures[0].sig = "")],
    ["two signatures", "KL_BUNDLE_SIGNATURES", (b) => b.dsseEnvelope.signatures.push(b.dsseEnvelope.signatures[0])],
    ["a keyid", "KL_BUNDLE_KEYID", (b) => (b.dsseEnvelope.signatures[0].keyid = "me")],
    ["another payload type", "KL_BUNDLE_PAYLOAD_TYPE", (b) => (b.dsseEnvelope.payloadType = "text/plain")],
    [
      "another payload",
      "KL_BUNDLE_SIGNATURE",
      (b) => (b.dsseEnvelope.payload = Buffer.from(statement({ version: "9.9.9" })).toString("base64")),
    ],
    ["another key's hint", "KL_BUNDLE_UNKNOWN_KEY", (b) => (b.verificationMaterial.publicKey.hint = otherHint)],
    ["a hint that objects know", "KL_BUNDLE_UNKNOWN_KEY", (b) => (b.verificationMaterial.publicKey.hint = "__proto__")],
    ["no hint", "KL_BUNDLE_UNKNOWN_KEY", (b) => delete b.verificationMaterial.publicKey.hint],
    ["media type v0.9", "KL_BUNDLE_MEDIA_TYPE", (b) => (b.mediaType = b.mediaType.replace("v0.3", "v0.9"))],
    ["media type v0.1", "KL_BUNDLE_MEDIA_TYPE", (b) => (b.mediaType = b.mediaType.replace("v0.3", "v0.1"))],
    ["media type with a tail", "KL_BUNDLE_MEDIA_TYPE", (b) => (b.mediaType += "x")],
    ["a certificate too", "KL_BUNDLE_MATERIAL", (b) => (b.verificationMaterial.certificate = { rawBytes: "AA==" })],
    [
      "a certificate chain instead of a key",
      "KL_BUNDLE_CERTIFICATE",
      (b) => (b.verificationMaterial = { x509CertificateChain: { certificates: [] } }),
    ],
    ["a log entry that is none", "KL_BUNDLE_MALFORMED", (b) => (b.verificationMaterial.tlogEntries = [{}])],
    [
      "a timestamp, and no root to judge it by",
      "KL_BUNDLE_MATERIAL",
      (b) => (b.verificationMaterial.timestampVerificationData = { rfc3161Timestamps: [{ signedTimestamp: "MAA=" }] }),
    ],
    ["a message signature too", "KL_BUNDLE_CONTENT", (b) => (b.messageSignature = message)],
    ["no envelope", "KL_BUNDLE_CONTENT", (b) => delete b.dsseEnvelope],
    ["an unknown field", "KL_BUNDLE_MALFORMED", (b) => (b.extra = 1)],
    ["lax base64", "KL_BUNDLE_MALFORMED", (b) => (b.dsseEnvelope.payload += "\n")],
    ["no key", "KL_BUNDLE_MALFORMED", (b) => (b.verificationMaterial = {})],
  ];
  test.each(cases)("%s", (_, code, change) => {
    expect(codeOf(() => verify(edited(change)))).toBe(code);
  });

  test("by a signer that the policy does not name", () => {
    expect(codeOf(() => verify(good, newKey()))).toBe("KL_BUNDLE_UNKNOWN_KEY");
  });

  test("signed by another key under a trusted key's hint", async () => {
    const other = newKey();
    const bytes = await createBundle(statement(), { publicKey: key.publicKey, sign: other.sign });
    expect(codeOf(() => verify(bytes))).toBe("KL_BUNDLE_SIGNATURE");
  });

  test("with bytes that are no strict JSON", () => {
    const text = Buffer.from(good).toString();
    const bad = [
      "",
      "null",
      "[]",
      "{",
      `${text} x`,
      `\ufeff${text}`,
      text.replace("{", '{"mediaType":"a",'),
      "[".repeat(1e5),
    ];
    for (const bytes of bad) expect(codeOf(() => verify(Buffer.from(bytes)))).toBe("KL_BUNDLE_MALFORMED");
    expect(codeOf(() => verify(Buffer.alloc(5 << 20, " ")))).toBe("KL_BUNDLE_TOO_LARGE");
  });

  test("over what is no in-toto statement", async () => {
    const payloads = [
      "",
      "{}",
      "[1]",
      '{"_type":1,"_type":2}',
      Buffer.from(statement()).toString().replace("/v1", "/v2"),
    ];
    for (const payload of payloads) {
      const bytes = await createBundle(Buffer.from(payload), key);
      expect(codeOf(() => verify(bytes))).toMatch(
        payload === "" ? /MALFORMED|STATEMENT|SIGNATURE/ : /^KL_BUNDLE_STATEMENT$/,
      );
    }
  });

  test("with any byte flipped, or with the same verdict: nothing else, and no untyped error", () => {
    const verdict = JSON.stringify({ ...verify(good), bundleDigest: null });
    for (let i = 0; i < good.length; i++) {
      for (const mask of [1, 0x20]) {
        const bytes = Buffer.from(good);
        bytes[i]! ^= mask;
        let result: string;
        try {
          result = JSON.stringify({ ...verify(bytes), bundleDigest: null });
        } catch (error) {
          result = (error as { code?: string }).code ?? `untyped ${String(error)}`;
        }
        expect(result === verdict || result.startsWith("KL_BUNDLE_"), `byte ${i}: ${result}`).toBe(true);
      }
    }
  });
});

describe("a key's window is compared with the caller's clock", () => {
  const at = (time: string) => new Date(time);
  test.each([
    ["inside", { validFrom: at("2026-01-01T00:00:00Z"), validUntil: at("2027-01-01T00:00:00Z") }, "no refusal"],
    ["before it opens", { validFrom: at("2026-12-01T00:00:00Z") }, "KL_BUNDLE_KEY_WINDOW"],
    ["after it closed", { validUntil: at("2026-11-01T00:00:00Z") }, "KL_BUNDLE_KEY_WINDOW"],
    ["at the moment it closes", { validUntil: now }, "KL_BUNDLE_KEY_WINDOW"],
    ["at the moment it opens", { validFrom: now }, "no refusal"],
  ])("%s", (_, window, code) => {
    expect(codeOf(() => verify(good, key, window))).toBe(code);
  });
});
