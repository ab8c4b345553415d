import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBundle, trustedKey, verifyBundle } from "@kernlock/policies/trust";
import { afterAll, expect, test } from "vitest";
import { environmentSigner, fileSigner, generateKeyPair } from "../index.ts";

const folder = mkdtempSync(join(tmpdir(), "kernlock-keys-"));
afterAll(() => rmSync(folder, { recursive: true }));
const statement = Buffer.from(
  JSON.stringify({
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: "acme/norm", digest: { sha256: "00" } }],
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {},
  }),
);

test.each(["p256", "ed25519"] as const)("a new %s key signs from a file and from the environment", async (kind) => {
  const { privatePem, publicPem, fingerprint } = generateKeyPair(kind);
  const path = join(folder, `${kind}.pem`);
  writeFileSync(path, privatePem);
  const keys = [trustedKey("me", publicPem)];
  for (const signer of [fileSigner(path), environmentSigner("KEY", { KEY: privatePem })]) {
    const signed = verifyBundle(await createBundle(statement, signer), { keys, now: new Date() });
    expect(signed.signer.fingerprint).toBe(fingerprint);
  }
});

test("what is no usable key is refused, and the refusal does not repeat it", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  const code = (pem?: string): string => {
    try {
      environmentSigner("KEY", pem === undefined ? {} : { KEY: pem });
    } catch (error) {
      const { code, message, remedy } = error as { code: string; message: string; remedy: string };
      expect(`${message} ${remedy}`).not.toContain("secret");
      return code;
    }
    return "no refusal";
  };
  expect(code()).toBe("KL_KEY_MISSING");
  expect(code("secret")).toBe("KL_KEY_UNREADABLE");
  expect(code(String(rsa))).toBe("KL_KEY_KIND");
  expect(() => fileSigner(join(folder, "none.pem"))).toThrow(expect.objectContaining({ code: "KL_KEY_MISSING" }));
});
