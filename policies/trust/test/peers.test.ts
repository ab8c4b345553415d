import { sign } from "node:crypto";
import { bundleFromJSON, bundleToJSON } from "@sigstore/bundle";
import { DSSEBundleBuilder } from "@sigstore/sign";
import { toSignedEntity, Verifier } from "@sigstore/verify";
import { expect, test } from "vitest";
import { createBundle, fingerprintOf, payloadType, verifyBundle } from "../index.ts";
import { codeOf, newKey, now, statement, trusted } from "./material.ts";

test.each(["p256", "ed25519"] as const)(
  "what @sigstore/sign makes with %s is accepted once its keyid is gone",
  async (kind) => {
    const key = newKey(kind);
    const hint = Buffer.from(fingerprintOf(key.publicKey).slice(7), "hex").toString("base64");
    const signer = {
      sign: async (data: Buffer) => ({
        signature: sign(kind === "p256" ? "sha256" : null, data, key.privateKey),
        key: { $case: "publicKey" as const, publicKey: key.pem, hint },
      }),
    };
    const builder = new DSSEBundleBuilder({ signer, witnesses: [] });
    const made = await builder.create({ data: Buffer.from(statement()), type: payloadType });
    // biome-ignore lint/suspicious/noExplicitAny: the library's own type has no room for what is deleted here
    const json = bundleToJSON(made) as any;
    const bytes = () => Buffer.from(JSON.stringify(json));
    const verify = () => verifyBundle(bytes(), { keys: [trusted(key)], now });
    expect(codeOf(verify)).toBe("KL_BUNDLE_KEYID");
    delete json.dsseEnvelope.signatures[0].keyid;
    expect(verify().signer.fingerprint).toBe(fingerprintOf(key.publicKey));
  },
);

test.each(["p256", "ed25519"] as const)(
  "what we make with %s is accepted by @sigstore/verify as it is",
  async (kind) => {
    const key = newKey(kind);
    const json = JSON.parse(Buffer.from(await createBundle(statement(), key)).toString());
    const hints: string[] = [];
    const none = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
    const publicKey = (hint: string) => {
      hints.push(hint);
      return { publicKey: key.publicKey, validFor: () => true };
    };
    const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 };
    new Verifier({ ...none, publicKey }, thresholds).verify(toSignedEntity(bundleFromJSON(json)));
    expect(Buffer.from(hints[0] ?? "", "base64").toString("hex")).toBe(fingerprintOf(key.publicKey).slice(7));
  },
);
