import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { describe, expect, test } from "vitest";
import { verifyDigest } from "../sigstore/ecdsa.ts";
import { newPair } from "./authorities/certificates.ts";
import { integer, seq } from "./authorities/der.ts";
import { mutateBytes, newRandom } from "./mutate.ts";

const pair = newPair();
const message = Buffer.from("a message");
const digest = createHash("sha256").update(message).digest();
const signature = sign("sha256", message, pair.privateKey);
const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const bytes = (value: bigint) => Buffer.from(value.toString(16).padStart(64, "0"), "hex").subarray();
const minimal = (value: bigint) => integer(value === 0n ? 0 : stripped(bytes(value)));
const stripped = (raw: Buffer) => raw.subarray(raw.findIndex((byte) => byte !== 0));

describe("a P-256 signature is checked by digest", () => {
  test("as node:crypto checks it by message, for 40 keys", () => {
    for (let i = 0; i < 40; i++) {
      const { privateKey, publicKey } = newPair();
      const signed = sign("sha256", Buffer.from(`${i}`), privateKey);
      const hash = createHash("sha256").update(`${i}`).digest();
      expect(verifyDigest(hash, publicKey, signed)).toBe(true);
      expect(verifyDigest(digest, publicKey, signed)).toBe(false);
      expect(verifyDigest(hash, pair.publicKey, signed)).toBe(false);
    }
  });

  test("and agrees with it on 400 changed signatures", () => {
    const random = newRandom(3);
    for (let i = 0; i < 400; i++) {
      const changed = mutateBytes(signature, random);
      expect(verifyDigest(digest, pair.publicKey, changed), changed.toString("hex")).toBe(
        verify("sha256", message, pair.publicKey, changed),
      );
    }
  });

  test.each<[string, bigint, bigint]>([
    ["r = 0", 0n, 1n],
    ["s = 0", 1n, 0n],
    ["r = n", n, 1n],
    ["s = n", 1n, n],
    ["r = 1, s = 1", 1n, 1n],
    ["r = n - 1, s = n - 1", n - 1n, n - 1n],
  ])("never with %s", (_, r, s) => {
    expect(verifyDigest(digest, pair.publicKey, seq(minimal(r), minimal(s)))).toBe(false);
  });

  test("and never with another kind of key, or another length of digest", () => {
    const others: KeyObject[] = [
      generateKeyPairSync("ed25519").publicKey,
      generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey,
    ];
    for (const key of others) expect(verifyDigest(digest, key, signature)).toBe(false);
    expect(verifyDigest(digest.subarray(1), pair.publicKey, signature)).toBe(false);
    expect(verifyDigest(digest, pair.publicKey, signature)).toBe(true);
  });
});
