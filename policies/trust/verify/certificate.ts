import { type KeyObject, X509Certificate } from "node:crypto";
import { type Der, readAll, readOid, readOne } from "./der.ts";
import { refuse } from "./refusal.ts";

const oid = {
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  extendedKeyUsage: "2.5.29.37",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  /** Fulcio's extension for the identity provider: a UTF8String, and its older form of bare characters. */
  issuer: "1.3.6.1.4.1.57264.1.8",
  issuerV1: "1.3.6.1.4.1.57264.1.1",
  /** Fulcio's otherName for user names. */
  userName: "1.3.6.1.4.1.57264.1.7",
};
const tag = { sequence: 0x30, boolean: 0x01, octets: 0x04, oid: 0x06, utf8: 0x0c, extensions: 0xa3 };
const name = { other: 0xa0, email: 0x81, uri: 0x86 };

/** What a signing certificate says about itself. Nothing of it is proved before its chain was followed. */
export interface Leaf {
  readonly der: Buffer;
  readonly publicKey: KeyObject;
  /** Its only subject alternative name: a URI, an e-mail address, or a user name. */
  readonly san: string;
  /** The identity provider that Fulcio saw. */
  readonly issuer: string;
}

/**
 * Reads a signing certificate and checks its purpose (G9): extended key usage code signing, key usage (where given)
 * digital signature, no CA. Exactly one name, so that "the identity" has one meaning (G2).
 * KL_BUNDLE_CERTIFICATE_USE, KL_BUNDLE_CERTIFICATE_NAME; RangeError or an OpenSSL error on what is no certificate.
 */
export function readLeaf(der: Buffer): Leaf {
  const certificate = new X509Certificate(der);
  if (!certificate.raw.equals(der)) refuse("KL_BUNDLE_CERTIFICATE", "The certificate is not plain DER.");
  const extensions = readExtensions(der);
  checkPurpose(certificate, extensions);
  return {
    der,
    publicKey: certificate.publicKey,
    san: readName(extensions.get(oid.subjectAltName)),
    issuer: readIssuer(extensions),
  };
}

function readExtensions(der: Buffer): Map<string, Buffer> {
  const [tbs] = readAll(readOne(der, tag.sequence)) as [Der];
  const list = readAll(tbs.body).find((field) => field.tag === tag.extensions);
  const found = new Map<string, Buffer>();
  if (list === undefined) return found;
  for (const extension of readAll(readOne(list.body, tag.sequence))) {
    const [id, ...rest] = readAll(extension.body);
    const value = rest.at(-1);
    if (id?.tag !== tag.oid || value?.tag !== tag.octets) throw new RangeError("an extension is malformed");
    const key = readOid(id.body);
    // Two readers could each take another one of the two.
    if (found.has(key)) refuse("KL_BUNDLE_CERTIFICATE", "The certificate has an extension twice.");
    found.set(key, value.body);
  }
  return found;
}

function checkPurpose(certificate: X509Certificate, extensions: Map<string, Buffer>): void {
  const purposes = extensions.get(oid.extendedKeyUsage);
  const listed =
    purposes === undefined ? [] : readAll(readOne(purposes, tag.sequence)).map(({ body }) => readOid(body));
  const usage = extensions.get(oid.keyUsage);
  // BIT STRING: one byte that counts unused bits, then the bits; the first is digitalSignature.
  const signs = usage === undefined || ((usage[3] ?? 0) & 0x80) !== 0;
  if (!listed.includes(oid.codeSigning) || !signs || certificate.ca) {
    refuse("KL_BUNDLE_CERTIFICATE_USE", "The certificate is not one for signing code.", { purposes: listed });
  }
}

function readName(extension: Buffer | undefined): string {
  const names = extension === undefined ? [] : readAll(readOne(extension, tag.sequence));
  const [only] = names;
  if (only === undefined || names.length > 1) {
    return refuse("KL_BUNDLE_CERTIFICATE_NAME", "The certificate does not name exactly one signer.");
  }
  switch (only.tag) {
    case name.uri:
    case name.email:
      return text(only.body);
    case name.other: {
      const [id, value] = readAll(only.body);
      if (id?.tag === tag.oid && readOid(id.body) === oid.userName && value !== undefined) {
        return text(readOne(value.body, tag.utf8));
      }
      break;
    }
  }
  return refuse("KL_BUNDLE_CERTIFICATE_NAME", "The certificate's name is not a URI, an e-mail address or a user name.");
}

function readIssuer(extensions: Map<string, Buffer>): string {
  const current = extensions.get(oid.issuer);
  const old = extensions.get(oid.issuerV1);
  const issuer = current ? text(readOne(current, tag.utf8)) : old ? text(old) : "";
  if (issuer === "" || (current && old && text(old) !== issuer)) {
    refuse("KL_BUNDLE_CERTIFICATE_NAME", "The certificate does not say, in one way, who identified the signer.");
  }
  return issuer;
}

function text(bytes: Buffer): string {
  const value = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  if (value === "" || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(value))
    throw new RangeError("a name is empty or not printable");
  return value;
}
