import { execFileSync, spawnSync } from "node:child_process";
import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { verifyBundle } from "../verify.ts";
import type { Certified } from "./authorities/certificates.ts";
import { bytesOf, identity, issuer, newBundle, san, trustedRoot } from "./authorities/index.ts";
import { codeOf } from "./material.ts";

// An independent peer: certificate and timestamp authority as `openssl` makes them, not as our own test code does.
const has = spawnSync("openssl", ["version"]).status === 0;
const folder = mkdtempSync(join(tmpdir(), "kernlock-openssl-"));
afterAll(() => rmSync(folder, { recursive: true }));

const openssl = (...args: string[]) =>
  execFileSync("openssl", args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
const put = (name: string, text: string | Uint8Array) => writeFileSync(join(folder, name), text);
const read = (name: string) => readFileSync(join(folder, name));

function authority(name: string): void {
  openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${name}.key`);
  put(
    `${name}.cnf`,
    "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
  );
  const subject = ["-subj", `/CN=${name}`, "-extensions", "ca", "-days", "30"];
  openssl("req", "-x509", "-new", "-key", `${name}.key`, "-config", `${name}.cnf`, ...subject, "-out", `${name}.pem`);
}

function leaf(name: string, by: string, extensions: string): void {
  openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${name}.ec`);
  openssl("pkcs8", "-topk8", "-nocrypt", "-in", `${name}.ec`, "-out", `${name}.key`);
  openssl("req", "-new", "-key", `${name}.key`, "-config", `${by}.cnf`, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
  put(`${name}.ext`, extensions);
  const issue = ["-CA", `${by}.pem`, "-CAkey", `${by}.key`, "-CAcreateserial", "-days", "1", "-extfile", `${name}.ext`];
  openssl("x509", "-req", "-in", `${name}.csr`, ...issue, "-out", `${name}.pem`);
}

const certified = (name: string): Certified => ({
  der: new X509Certificate(read(`${name}.pem`)).raw,
  privateKey: createPrivateKey(read(`${name}.key`)),
  publicKey: createPublicKey(read(`${name}.pem`)),
  name: Buffer.alloc(0),
  serial: Buffer.alloc(0),
});

describe.runIf(has)(has ? "with openssl" : "with openssl (left out: openssl is not installed)", () => {
  const stamp = (signature: Buffer): Buffer[] => {
    put("signature", signature);
    openssl("ts", "-query", "-data", "signature", "-sha256", "-cert", "-out", "query");
    openssl("ts", "-reply", "-config", "ts.cnf", "-section", "tsa", "-queryfile", "query", "-out", "reply");
    return [read("reply")];
  };

  const setUp = () => {
    authority("code");
    authority("time");
    const common = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n";
    leaf(
      "signer",
      "code",
      `${common}extendedKeyUsage=codeSigning\nsubjectAltName=URI:${san}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}\n`,
    );
    leaf(
      "server",
      "code",
      `${common}extendedKeyUsage=serverAuth\nsubjectAltName=URI:${san}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}\n`,
    );
    leaf("stamper", "time", `${common}extendedKeyUsage=critical,timeStamping\n`);
    put("serial", "01\n");
    put(
      "ts.cnf",
      "[tsa]\nserial=serial\nsigner_cert=stamper.pem\ncerts=time.pem\nsigner_key=stamper.key\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\ness_cert_id_alg=sha256\n",
    );
    const chain = (name: string) => new X509Certificate(read(`${name}.pem`)).raw;
    const tsa = { chain: [chain("stamper"), chain("time")], stamp: () => Buffer.alloc(0) };
    return trustedRoot({ ca: { ...certified("code") }, tsa });
  };

  test("its certificates and timestamps hold, and a certificate for a server does not sign", () => {
    const root = setUp();
    const verify = (name: string, stamps = stamp) =>
      verifyBundle(bytesOf(newBundle({ leaf: certified(name), stamps })), {
        keys: [],
        identities: [identity(root)],
        now: new Date(),
      });
    const signed = verify("signer");
    expect(signed.signer).toMatchObject({ kind: "identity", san, issuer });
    expect(Math.abs(Date.now() - (signed.trustedTime?.getTime() ?? 0))).toBeLessThan(60_000);
    expect(codeOf(() => verify("server"))).toBe("KL_BUNDLE_CERTIFICATE_USE");
    expect(codeOf(() => verify("signer", () => stamp(Buffer.from("else"))))).toBe("KL_BUNDLE_TIMESTAMP");
    expect(codeOf(() => verify("signer", () => []))).toBe("KL_BUNDLE_TIME");
  });
});
