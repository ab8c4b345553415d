/**
 * Certificates, log entries and timestamps. The authorities are those of our own tests (a private Sigstore in one
 * process: certificates as Fulcio issues them, entries of Rekor v2, RFC 3161); cosign shows that they are made as it
 * expects, and that it and Kernlock come to the same verdict. keyless.ts has unmodified authorities.
 */
import { writeFileSync } from "node:fs";
import { newPair } from "../../policies/trust/test/authorities/certificates.ts";
import {
  type BundleParts,
  bytesOf,
  issuer,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  san,
  signedAt,
} from "../../policies/trust/test/authorities/index.ts";
import type { Stage } from "./stage.ts";
import { type Row, row } from "./table.ts";

/** What both are asked, with the words of cosign and the code of Kernlock where it is to be refused. */
interface Case {
  readonly what: string;
  readonly parts: BundleParts;
  readonly root?: string;
  readonly san?: string;
  readonly refusal?: { readonly cosign: RegExp; readonly kernlock: RegExp };
}

export async function identityRows(stage: Stage, cosign: string, type: string, payload: Buffer): Promise<Row[]> {
  const world = { ...newWorld(), ctLog: newPair() };
  const other = newWorld();
  const root = stage.path("trusted-root.json");
  const otherRoot = stage.path("other-root.json");
  writeFileSync(root, bytesOf(newRoot(world)));
  writeFileSync(otherRoot, bytesOf(newRoot({ ...other, ctLog: newPair() })));
  const whole: BundleParts = {
    leaf: newLeaf(world),
    payload,
    stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
    entries: (signed) => [world.log.entry(signed)],
  };
  const cases: readonly Case[] = [
    { what: "certificate, Rekor v2 entry, timestamp", parts: whole },
    {
      what: "the same for another identity",
      parts: whole,
      san: "https://ci.example/somebody/else",
      refusal: { cosign: /identit|san/i, kernlock: /KL_BUNDLE_IDENTITY/ },
    },
    {
      what: "the same under another trusted root",
      parts: whole,
      root: otherRoot,
      refusal: { cosign: /verif/i, kernlock: /KL_BUNDLE_/ },
    },
    {
      what: "a timestamp of another authority",
      parts: { ...whole, stamps: (signature) => [other.tsa.stamp(signature, signedAt)] },
      refusal: { cosign: /timestamp|verif/i, kernlock: /KL_BUNDLE_/ },
    },
    {
      what: "a log entry of another log",
      parts: { ...whole, entries: (signed) => [other.log.entry(signed)] },
      refusal: { cosign: /log|verif/i, kernlock: /KL_BUNDLE_/ },
    },
  ];
  const rows: Row[] = [];
  for (const [index, one] of cases.entries()) {
    const bundle = stage.path(`identity-${index}.json`);
    writeFileSync(bundle, bytesOf(newBundle(one.parts)));
    const common = ["--certificate-identity", one.san ?? san, "--certificate-oidc-issuer", issuer];
    const from = ["--trusted-root", one.root ?? root, "--bundle", bundle];
    const file = stage.files.index;
    rows.push(
      await row(
        "cosign, identities",
        one.what,
        () => stage.run(cosign, ["verify-blob-attestation", ...common, ...from, "--type", type, file]),
        one.refusal?.cosign,
      ),
      await row(
        "verify-bundle",
        one.what,
        () => stage.kernlock(["verify-bundle", ...common, ...from, file]),
        one.refusal?.kernlock,
      ),
    );
  }
  return rows;
}
