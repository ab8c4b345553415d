import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { readAll, readOne } from "../../verify/der.ts";
import { bits, bool, certificateTime, context, integer, octets, oid, seq, set, tlv, utf8 } from "./der.ts";

export const ecdsaSha256 = seq(oid("1.2.840.10045.4.3.2"));
export const usage = { codeSigning: "1.3.6.1.5.5.7.3.3", timeStamping: "1.3.6.1.5.5.7.3.8" };

export const newPair = (): { privateKey: KeyObject; publicKey: KeyObject } =>
  generateKeyPairSync("ec", { namedCurve: "P-256" });
export const spki = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" });

export interface Certified {
  readonly der: Buffer;
  readonly name: Buffer;
  readonly serial: Buffer;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export interface CertificateParts {
  readonly name: string;
  /** Itself where absent. */
  readonly by?: Certified;
  readonly pair?: { privateKey: KeyObject; publicKey: KeyObject };
  readonly from?: Date;
  readonly to?: Date;
  readonly ca?: boolean;
  readonly purposes?: readonly string[];
  readonly keyUsage?: number;
  /** GeneralNames, encoded. */
  readonly names?: readonly Buffer[];
  readonly issuerUrl?: string;
  readonly oldIssuerUrl?: string;
  /** Logged there before it is issued (RFC 6962, section 3.2). */
  readonly loggedBy?: Pick<Certified, "privateKey" | "publicKey">;
}

export const uri = (text: string) => tlv(0x86, Buffer.from(text));
export const email = (text: string) => tlv(0x81, Buffer.from(text));

/** An X.509 v3 certificate with exactly these extensions. */
export function certify(parts: CertificateParts): Certified {
  const pair = parts.pair ?? newPair();
  const serial = Buffer.concat([Buffer.from([0x41]), randomBytes(8)]);
  const name = seq(set(seq(oid("2.5.4.3"), utf8(parts.name))));
  const extension = (id: string, value: Buffer, critical = false) =>
    seq(oid(id), ...(critical ? [bool(true)] : []), octets(value));
  const extensions = [
    ...(parts.ca ? [extension("2.5.29.19", seq(bool(true)), true)] : []),
    extension("2.5.29.15", bits(Buffer.from([parts.keyUsage ?? (parts.ca ? 0x06 : 0x80)]), 1), true),
    ...(parts.purposes ? [extension("2.5.29.37", seq(...parts.purposes.map(oid)), true)] : []),
    ...(parts.names ? [extension("2.5.29.17", seq(...parts.names), true)] : []),
    ...(parts.issuerUrl ? [extension("1.3.6.1.4.1.57264.1.8", utf8(parts.issuerUrl))] : []),
    ...(parts.oldIssuerUrl ? [extension("1.3.6.1.4.1.57264.1.1", Buffer.from(parts.oldIssuerUrl))] : []),
  ];
  const tbsWith = (list: readonly Buffer[]) =>
    seq(
      context(0, integer(2)),
      integer(serial),
      ecdsaSha256,
      parts.by?.name ?? name,
      seq(
        certificateTime(parts.from ?? new Date("2026-01-01T00:00:00Z")),
        certificateTime(parts.to ?? new Date("2036-01-01T00:00:00Z")),
      ),
      name,
      spki(pair.publicKey),
      context(3, seq(...list)),
    );
  const scts = parts.loggedBy && parts.by ? [sctExtension(tbsWith(extensions), parts.by, parts.loggedBy)] : [];
  const tbs = tbsWith([...extensions, ...scts]);
  return { der: signedBy(parts.by?.privateKey ?? pair.privateKey, tbs), name, serial, ...pair };
}

/** A promise of a certificate log: over the issuer's key and the certificate without this extension. */
function sctExtension(tbs: Buffer, by: Certified, log: Pick<Certified, "privateKey" | "publicKey">): Buffer {
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
  const number = (value: number, size: number) => Buffer.from(value.toString(16).padStart(2 * size, "0"), "hex");
  const at = number(Date.parse("2026-06-01T12:00:00Z"), 8);
  const signed = Buffer.concat([
    number(0, 2),
    at,
    number(1, 2),
    sha256(spki(by.publicKey)),
    number(tbs.length, 3),
    tbs,
    number(0, 2),
  ]);
  const signature = sign("sha256", signed, log.privateKey);
  const sct = Buffer.concat([
    number(0, 1),
    sha256(spki(log.publicKey)),
    at,
    number(0, 2),
    number(0x0403, 2),
    number(signature.length, 2),
    signature,
  ]);
  const list = Buffer.concat([number(sct.length + 2, 2), number(sct.length, 2), sct]);
  return seq(oid("1.3.6.1.4.1.11129.2.4.2"), octets(octets(list)));
}

function signedBy(key: KeyObject, tbs: Buffer): Buffer {
  return seq(tbs, ecdsaSha256, bits(sign("sha256", tbs, key)));
}

/** The same certificate with its signed part changed, and signed again. */
export function recertify(leaf: Certified, by: Certified, change: (tbs: Buffer) => Buffer): Certified {
  const [tbs] = readAll(readOne(leaf.der, 0x30));
  return { ...leaf, der: signedBy(by.privateKey, change(tlv(0x30, tbs!.body))) };
}
