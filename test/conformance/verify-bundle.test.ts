import { spawnSync } from "node:child_process";
import { createHash, type KeyObject, sign } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { newPair, spki } from "../../policies/trust/test/authorities/certificates.ts";
import {
  bytesOf,
  issuer,
  type Loose,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  san,
  signedAt,
} from "../../policies/trust/test/authorities/index.ts";
import { statement } from "../../policies/trust/test/material.ts";

// The command as people run it, against a Sigstore of our own with a certificate log.
const main = resolve(import.meta.dirname, "../../cli/main.ts");
const folder = mkdtempSync(join(tmpdir(), "kernlock-verify-bundle-"));
afterAll(() => rmSync(folder, { recursive: true }));

const world = { ...newWorld(), ctLog: newPair() };
const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
const artifact = Buffer.from("an artifact\n");
const hex = createHash("sha256").update(artifact).digest("hex");
const payload = statement({ digest: `sha256:${hex}` });
const pair = newPair();

const dsse = (parts: { leaf: ReturnType<typeof newLeaf> } | { pair: typeof pair }) =>
  newBundle({ ...parts, payload, stamps, entries: (it) => [world.log.entry(it)] });

/** A signature over the artifact's bytes, without a statement. */
function message(): Loose {
  const signature = sign("sha256", artifact, pair.privateKey);
  const bundle = newBundle({ pair, stamps: () => stamps(signature) });
  delete bundle.dsseEnvelope;
  bundle.messageSignature = {
    messageDigest: { algorithm: "SHA2_256", digest: Buffer.from(hex, "hex").toString("base64") },
    signature: signature.toString("base64"),
  };
  const key = spki(pair.publicKey);
  bundle.verificationMaterial.tlogEntries = [
    world.log.entry({ preimage: artifact, payload: artifact, signature, key }),
  ];
  return bundle;
}

const put = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(folder, name), bytes);
  return name;
};
const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }) as string;
put("artifact", artifact);
put("other", "another artifact\n");
put("key.pub", pem(pair.publicKey));
put("stranger.pub", pem(newPair().publicKey));
put("root.json", bytesOf(newRoot(world)));
put("broken-root.json", bytesOf({ ...newRoot(world), mediaType: "x" }));
put("by-certificate.json", bytesOf(dsse({ leaf: newLeaf(world) })));
put("by-key.json", bytesOf(dsse({ pair })));
put("message.json", bytesOf(message()));
put("unlogged-certificate.json", bytesOf(dsse({ leaf: newLeaf(newWorld()) })));

function run(line: string): { status: number | null; code: string } {
  const args = line.split(" ").map((word) => (word === "ME" ? san : word === "ISSUER" ? issuer : word));
  const { status, stdout } = spawnSync(process.execPath, [main, "verify-bundle", "--json", ...args], {
    cwd: folder,
    encoding: "utf8",
  });
  const { ok, error } = JSON.parse(stdout);
  return { status, code: ok === true ? "valid" : error.code };
}

const me = "--certificate-identity ME --certificate-oidc-issuer ISSUER";
test.each([
  [0, "valid", `--bundle by-certificate.json ${me} --trusted-root root.json artifact`],
  [0, "valid", `--bundle by-certificate.json ${me} --trusted-root root.json sha256:${hex}`],
  [0, "valid", "--bundle by-key.json --key key.pub --trusted-root root.json artifact"],
  [0, "valid", "--bundle message.json --key key.pub --trusted-root root.json artifact"],
  [0, "valid", `--bundle message.json --key key.pub --trusted-root root.json sha256:${hex}`],
  [1, "KL_BUNDLE_ARTIFACT", `--bundle by-certificate.json ${me} --trusted-root root.json other`],
  [1, "KL_BUNDLE_ARTIFACT", "--bundle message.json --key key.pub --trusted-root root.json other"],
  [1, "KL_BUNDLE_SIGNATURE", "--bundle by-key.json --key stranger.pub --trusted-root root.json artifact"],
  [1, "KL_BUNDLE_MATERIAL", `--bundle by-key.json ${me} --trusted-root root.json artifact`],
  [
    1,
    "KL_BUNDLE_IDENTITY",
    `--bundle by-certificate.json --certificate-identity .* --certificate-oidc-issuer ISSUER --trusted-root root.json artifact`,
  ],
  [1, "KL_BUNDLE_CERTIFICATE", `--bundle unlogged-certificate.json ${me} --trusted-root root.json artifact`],
  [1, "KL_BUNDLE_LOG_UNKNOWN", `--bundle by-certificate.json ${me} artifact`],
  [1, "KL_BUNDLE_LOG_UNKNOWN", `--staging --bundle by-certificate.json ${me} artifact`],
  [1, "KL_ROOT_MEDIA_TYPE", `--bundle by-certificate.json ${me} --trusted-root broken-root.json artifact`],
  [1, "KL_CLI_FILE", `--bundle by-certificate.json ${me} --trusted-root root.json missing`],
  [2, "KL_CLI_USAGE", "--bundle by-certificate.json --trusted-root root.json artifact"],
  [2, "KL_CLI_USAGE", `--bundle by-key.json --key key.pub ${me} artifact`],
  [2, "KL_CLI_USAGE", `--bundle by-certificate.json --certificate-identity ME artifact`],
])("exit code %i, %s: kernlock verify-bundle %s", (status, code, line) => {
  expect(run(line)).toEqual({ status, code });
});
