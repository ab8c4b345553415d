import { describe, expect, test } from "vitest";
import { lintTrustedRoot, parseTrustedRoot } from "../../verify/root.ts";
import { certify } from "../authorities/certificates.ts";
import { bytesOf, type Loose, newRoot, newWorld } from "../authorities/index.ts";
import { newStampAuthority } from "../authorities/timestamps.ts";
import { codeOf } from "../material.ts";

const world = newWorld();
const good = newRoot(world);
const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const child = certify({ name: "child", by: world.ca, ca: true });

describe("G6: a trusted root is read only when it makes sense", () => {
  test("this one does", () => {
    expect(lintTrustedRoot(bytesOf(good))).toEqual([]);
    expect(parseTrustedRoot(bytesOf(good)).logs.map(({ names }) => names[0])).toEqual(["log.example", "rekor.example"]);
  });

  test.each<[string, string, (root: Loose) => void]>([
    ["no beginning of a log's window", "KL_ROOT_WINDOW", (r) => delete r.tlogs[0].publicKey.validFor.start],
    ["no window of a log", "KL_ROOT_WINDOW", (r) => delete r.tlogs[0].publicKey.validFor],
    ["no window of an authority", "KL_ROOT_WINDOW", (r) => delete r.certificateAuthorities[0].validFor],
    [
      "a window that ends before it begins",
      "KL_ROOT_WINDOW",
      (r) => (r.tlogs[0].publicKey.validFor.end = "2020-01-01T00:00:00Z"),
    ],
    ["a date that is none", "KL_ROOT_WINDOW", (r) => (r.timestampAuthorities[0].validFor.start = "yesterday")],
    ["a day that is none", "KL_ROOT_WINDOW", (r) => (r.tlogs[0].publicKey.validFor.start = "2026-02-30T00:00:00Z")],
    ["a minute that is none", "KL_ROOT_WINDOW", (r) => (r.tlogs[0].publicKey.validFor.start = "2026-02-20T00:61:00Z")],
    ["a month that is none", "KL_ROOT_WINDOW", (r) => (r.tlogs[0].publicKey.validFor.start = "2026-13-01T00:00:00Z")],
    ["an empty chain", "KL_ROOT_CHAIN", (r) => (r.certificateAuthorities[0].certChain.certificates = [])],
    [
      "a certificate that is none",
      "KL_ROOT_CHAIN",
      (r) => (r.certificateAuthorities[0].certChain.certificates[0].rawBytes = "AAAA"),
    ],
    [
      "a chain without its root",
      "KL_ROOT_CHAIN",
      (r) => (r.certificateAuthorities[0].certChain.certificates = [{ rawBytes: b64(child.der) }]),
    ],
    ["a chain in the wrong order", "KL_ROOT_CHAIN", (r) => r.timestampAuthorities[0].certChain.certificates.reverse()],
    [
      "an authority that may not certify",
      "KL_ROOT_CHAIN",
      (r) => (r.certificateAuthorities[0].certChain.certificates[0].rawBytes = b64(certify({ name: "no CA" }).der)),
    ],
    ["another media type", "KL_ROOT_MEDIA_TYPE", (r) => (r.mediaType = r.mediaType.replace("0.1", "0.2"))],
    ["a log id of another key", "KL_ROOT_LOG_ID", (r) => (r.tlogs[0].logId = r.tlogs[1].logId)],
    ["no log id", "KL_ROOT_LOG_ID", (r) => delete r.tlogs[0].logId],
    ["a key of another kind", "KL_ROOT_KEY", (r) => (r.tlogs[0].publicKey.keyDetails = "PKIX_ECDSA_P256_SHA_256")],
    ["a kind that objects know", "KL_ROOT_KEY", (r) => (r.tlogs[0].publicKey.keyDetails = "constructor")],
    ["a log twice", "KL_ROOT_DUPLICATE", (r) => r.tlogs.push(r.tlogs[0])],
    ["an authority twice", "KL_ROOT_DUPLICATE", (r) => r.certificateAuthorities.push(r.certificateAuthorities[0])],
    ["no URL of a log", "KL_ROOT_FIELD", (r) => delete r.tlogs[0].baseUrl],
    ["a URL without scheme", "KL_ROOT_FIELD", (r) => (r.tlogs[0].baseUrl = "log.example")],
    ["no hash algorithm", "KL_ROOT_FIELD", (r) => delete r.tlogs[0].hashAlgorithm],
    ["an unknown field", "KL_ROOT_FIELD", (r) => (r.extra = 1)],
    ["lax base64", "KL_ROOT_FIELD", (r) => (r.tlogs[0].logId.keyId += "\n")],
    [
      "a timestamp authority for signing code",
      "KL_ROOT_ROLE",
      (r) =>
        (r.timestampAuthorities = newRoot({
          tsa: newStampAuthority({ purposes: ["1.3.6.1.5.5.7.3.3"] }),
        }).timestampAuthorities),
    ],
    [
      "one root for code and for time",
      "KL_ROOT_ROLE",
      (r) => (r.timestampAuthorities = newRoot({ tsa: newStampAuthority({ root: world.ca }) }).timestampAuthorities),
    ],
  ])("%s", (_, code, change) => {
    const root = structuredClone(good);
    change(root);
    expect(lintTrustedRoot(bytesOf(root)).map((problem) => problem.code)).toContain(code);
    expect(codeOf(() => parseTrustedRoot(bytesOf(root)))).toMatch(/^KL_ROOT_/);
  });

  test("and only as strict JSON", () => {
    for (const text of ["", "{", "[]", `${bytesOf(good)} `.repeat(2), `{"mediaType":"a","mediaType":"a"}`]) {
      expect(codeOf(() => parseTrustedRoot(Buffer.from(text)))).toMatch(/^KL_ROOT_(SYNTAX|FIELD)$/);
    }
  });
});
