import { createHash, randomBytes, sign } from "node:crypto";
import { type Certified, certify, ecdsaSha256, usage } from "./certificates.ts";
import { context, generalizedTime, integer, octets, oid, seq, set, tlv } from "./der.ts";

export interface StampAuthority {
  readonly chain: readonly Buffer[];
  stamp(signature: Uint8Array, at: Date): Buffer;
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
const sha256Algorithm = seq(oid("2.16.840.1.101.3.4.2.1"));
const tstInfoType = oid("1.2.840.113549.1.9.16.1.4");

/** A timestamp authority (RFC 3161) that says whatever time it is asked for. */
export function newStampAuthority(parts: { purposes?: readonly string[]; root?: Certified } = {}): StampAuthority {
  const root = parts.root ?? certify({ name: "time root", ca: true });
  const leaf = certify({ name: "time", by: root, purposes: parts.purposes ?? [usage.timeStamping] });
  return {
    chain: [leaf.der, root.der],
    stamp(signature, at) {
      const info = seq(
        integer(1),
        oid("1.2.3.4"),
        seq(sha256Algorithm, octets(sha256(signature))),
        integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
        generalizedTime(at),
      );
      const attributes = Buffer.concat([
        seq(oid("1.2.840.113549.1.9.3"), set(tstInfoType)),
        seq(oid("1.2.840.113549.1.9.4"), set(octets(sha256(info)))),
      ]);
      const signed = sign("sha256", set(attributes), leaf.privateKey);
      const signer = seq(
        integer(1),
        seq(root.name, integer(leaf.serial)),
        sha256Algorithm,
        tlv(0xa0, attributes),
        ecdsaSha256,
        octets(signed),
      );
      const data = seq(integer(3), set(sha256Algorithm), seq(tstInfoType, context(0, octets(info))), set(signer));
      return seq(seq(integer(0)), seq(oid("1.2.840.113549.1.7.2"), context(0, data)));
    },
  };
}
