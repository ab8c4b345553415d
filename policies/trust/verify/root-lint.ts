import { createHash, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import type { ErrorCode } from "@kernlock/kernels/format";
import { rawEd25519 } from "./note.ts";
import { type RawAuthority, type RawLog, type RawRoot, rootMediaTypes } from "./root-schema.ts";

export interface RootProblem {
  readonly code: ErrorCode;
  /** `tlogs.0.publicKey` and the like. */
  readonly path: string;
  readonly reason: string;
}

/** What a root of the right form says that cannot be right. */
export function lint(raw: RawRoot): RootProblem[] {
  const problems: RootProblem[] = [];
  const report = (code: ErrorCode, path: string, reason: string) => problems.push({ code, path, reason });
  if (!rootMediaTypes.includes(raw.mediaType)) report("KL_ROOT_MEDIA_TYPE", "mediaType", "not a trusted root v0.1");
  for (const list of ["tlogs", "ctlogs"] as const) {
    raw[list].forEach((log, i) => {
      lintLog(log, list === "tlogs", (code, field, reason) => report(code, `${list}.${i}.${field}`, reason));
    });
    lintDuplicates(
      raw[list].map((log) => log.logId?.keyId.toString("hex") ?? ""),
      (i) => report("KL_ROOT_DUPLICATE", `${list}.${i}.logId`, "the same log a second time"),
    );
    lintDuplicates(
      raw[list].map((log) => log.publicKey.rawBytes.toString("hex")),
      (i) => report("KL_ROOT_DUPLICATE", `${list}.${i}.publicKey`, "the same key a second time"),
    );
  }
  for (const list of ["certificateAuthorities", "timestampAuthorities"] as const) {
    raw[list].forEach((authority, i) => {
      lintAuthority(authority, list === "timestampAuthorities", (code, field, reason) =>
        report(code, `${list}.${i}.${field}`, reason),
      );
    });
    lintDuplicates(
      raw[list].map(({ certChain }) =>
        certChain.certificates.map(({ rawBytes }) => rawBytes.toString("hex")).join(" "),
      ),
      (i) => report("KL_ROOT_DUPLICATE", `${list}.${i}.certChain`, "the same chain a second time"),
    );
  }
  lintRoles(raw, report);
  return problems;
}

type Report = (code: ErrorCode, field: string, reason: string) => void;

function lintDuplicates(keys: readonly string[], report: (i: number) => void): void {
  keys.forEach((key, i) => {
    if (key !== "" && keys.indexOf(key) < i) report(i);
  });
}

function lintWindow(
  window: { start?: Date | undefined; end?: Date | undefined } | undefined,
  field: string,
  report: Report,
) {
  if (window?.start === undefined) report("KL_ROOT_WINDOW", field, "it does not say from when on it counts");
  else if (window.end !== undefined && window.end < window.start) {
    report("KL_ROOT_WINDOW", field, "it ends before it begins");
  }
}

function lintLog(log: RawLog, named: boolean, report: Report): void {
  lintWindow(log.publicKey.validFor, "publicKey.validFor", report);
  if (log.hashAlgorithm !== "SHA2_256") report("KL_ROOT_FIELD", "hashAlgorithm", "not SHA2_256");
  const names = log.baseUrl === undefined ? undefined : logNames(log.baseUrl);
  if (names === undefined) report("KL_ROOT_FIELD", "baseUrl", "not an http or https URL");
  const key = readKey(log);
  const id = (log.checkpointKeyId ?? log.logId)?.keyId;
  if (key === undefined) report("KL_ROOT_KEY", "publicKey", "not a key of the kind that it says");
  else if (id === undefined || !possibleIds(key, named ? (names ?? []) : []).some((possible) => possible.equals(id))) {
    report("KL_ROOT_LOG_ID", "logId", "not the hash of the log's key");
  }
}

/**
 * `https://log.example:8000/2026/` signs checkpoints as `log.example/2026` or, as Rekor v1 does it, with the port.
 * Undefined: no such URL.
 */
export function logNames(baseUrl: string): readonly string[] | undefined {
  if (!URL.canParse(baseUrl)) return undefined;
  const { protocol, host, hostname, pathname, username, search, hash } = new URL(baseUrl);
  if ((protocol !== "https:" && protocol !== "http:") || username || search || hash) return undefined;
  const path = pathname.replace(/\/$/, "");
  return [...new Set([`${hostname}${path}`, `${host}${path}`])];
}

export function readKey({ publicKey: { rawBytes, keyDetails } }: RawLog): KeyObject | undefined {
  try {
    const pkcs1 = keyDetails === "PKCS1_RSA_PKCS1V5";
    const key = createPublicKey({ key: rawBytes, format: "der", type: pkcs1 ? "pkcs1" : "spki" });
    // Plain DER and nothing after it; a PKCS #1 key stands at the end of its SPKI form.
    const spki = key.export({ format: "der", type: "spki" });
    if (!(pkcs1 ? spki.subarray(-rawBytes.length) : spki).equals(rawBytes)) return undefined;
    return keyKinds[keyDetails]?.(key) ? key : undefined;
  } catch {
    return undefined;
  }
}

const curve = (name: string) => (key: KeyObject) => key.asymmetricKeyDetails?.namedCurve === name;
const rsa = (bits: number) => (key: KeyObject) =>
  key.asymmetricKeyType === "rsa" && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= bits;
const keyKinds: Readonly<Record<string, (key: KeyObject) => boolean>> = {
  __proto__: null as never,
  PKIX_ECDSA_P256_SHA_256: curve("prime256v1"),
  PKIX_ECDSA_P384_SHA_384: curve("secp384r1"),
  PKIX_ED25519: (key) => key.asymmetricKeyType === "ed25519",
  PKCS1_RSA_PKCS1V5: rsa(2048),
  PKIX_RSA_PKCS1V5: rsa(2048),
  PKIX_RSA_PKCS1V15_2048_SHA256: rsa(2048),
  PKIX_RSA_PKCS1V15_3072_SHA256: rsa(3072),
  PKIX_RSA_PKCS1V15_4096_SHA256: rsa(4096),
};

/** RFC 6962's log id, and for logs that sign checkpoints the key id of C2SP signed-note (name, newline, type, key). */
function possibleIds(key: KeyObject, names: readonly string[]): Buffer[] {
  const spki = key.export({ format: "der", type: "spki" });
  const noted = (name: string, type: number, bytes: Buffer) =>
    createHash("sha256").update(`${name}\n`).update(Buffer.of(type)).update(bytes).digest();
  return [
    createHash("sha256").update(spki).digest(),
    ...(key.asymmetricKeyType === "ed25519" ? names.map((name) => noted(name, 1, rawEd25519(key))) : []),
    ...(key.asymmetricKeyType === "ec" ? names.map((name) => noted(name, 2, spki)) : []),
  ];
}

/** Leaf first (for a timestamp authority), then each certificate's issuer, ending in one that signed itself. */
function lintAuthority(authority: RawAuthority, stamps: boolean, report: Report): void {
  lintWindow(authority.validFor, "validFor", report);
  const broken = (reason: string) => report("KL_ROOT_CHAIN", "certChain", reason);
  const chain = readChain(authority);
  const [leaf] = chain ?? [];
  const last = chain?.at(-1);
  if (chain === undefined || leaf === undefined || last === undefined) {
    broken("no certificate, or one that cannot be read");
    return;
  }
  if (!last.checkIssued(last) || !last.verify(last.publicKey)) broken("it does not end in a root");
  for (const [i, certificate] of chain.entries()) {
    const issuer = chain[i + 1];
    if (issuer && !(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))) {
      broken("a certificate is not issued by the next one");
    }
    const isLeaf = stamps && i === 0;
    if (certificate.ca === isLeaf) broken(isLeaf ? "it begins with a CA" : "a certificate is no CA");
  }
  if (stamps && !leaf.keyUsage?.includes(timeStamping)) {
    report("KL_ROOT_ROLE", "certChain", "its leaf is not for time stamping");
  }
}

const timeStamping = "1.3.6.1.5.5.7.3.8";

function readChain({ certChain }: RawAuthority): X509Certificate[] | undefined {
  try {
    const chain = certChain.certificates.map(({ rawBytes }) => new X509Certificate(rawBytes));
    return chain.every(({ raw }, i) => raw.equals(certChain.certificates[i]!.rawBytes)) ? chain : undefined;
  } catch {
    return undefined;
  }
}

/** Who certifies signers must not also tell the time or keep the log (G9): one stolen key would then do for both. */
function lintRoles(raw: RawRoot, report: Report): void {
  const seen = new Map<string, string>();
  const claim = (role: string, path: string, bytes: Buffer) => {
    const key = bytes.toString("hex");
    const other = seen.get(key);
    if (other !== undefined && other !== role) report("KL_ROOT_ROLE", path, `the same key is also one of ${other}`);
    seen.set(key, role);
  };
  for (const list of ["certificateAuthorities", "timestampAuthorities"] as const) {
    for (const [i, { certChain }] of raw[list].entries()) {
      for (const { rawBytes } of certChain.certificates) {
        const key = publicKeyOf(rawBytes);
        if (key !== undefined) claim(list, `${list}.${i}.certChain`, key);
      }
    }
  }
  for (const list of ["tlogs", "ctlogs"] as const) {
    for (const [i, { publicKey }] of raw[list].entries()) claim(list, `${list}.${i}.publicKey`, publicKey.rawBytes);
  }
}

function publicKeyOf(certificate: Buffer): Buffer | undefined {
  try {
    return new X509Certificate(certificate).publicKey.export({ format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}
