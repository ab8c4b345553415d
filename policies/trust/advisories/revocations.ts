import { type Digest, fields } from "@kernlock/kernels/format";
import semver from "semver";
import { z } from "zod";
import { signerName } from "../judge/evidence.ts";
import { type Problem, problem } from "../judge/tree.ts";
import type { KernelFacts, SignedStatement, StatementSigner } from "../types.ts";

export const revocationsType = "https://kernlock.dev/feed/revocations/v1";

const reason = fields.line;
const range = z.string().refine((text) => semver.validRange(text) !== null, "is not a semver range");

/** What can be taken back. A digest is that of an index or of a variant's manifest. */
export const revocation = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("digest"), digest: fields.digest, reason }),
  z.strictObject({ kind: z.literal("kernel"), name: fields.packageName, versions: range, reason }),
  z.strictObject({
    kind: z.literal("signer"),
    /** A fingerprint, or issuer and subject with a space between. */
    signer: fields.line,
    /** Compromised from then on: what a trusted clock saw before still counts. Without it, nothing does. */
    since: z.iso.datetime({ offset: true }).optional(),
    reason,
  }),
  z.strictObject({ kind: z.literal("builder"), id: z.string(), reason }),
  z.strictObject({ kind: z.literal("statement"), payload: fields.digest, reason }),
]);
export type Revocation = z.infer<typeof revocation>;

export interface Revocations {
  /** Whether a statement still counts. */
  ofStatement(signed: SignedStatement<StatementSigner>): Problem | undefined;
  /** Whether a kernel may still be used, whoever vouches for it. */
  ofKernel(kernel: KernelFacts): Problem[];
}

export function revocationsFrom(list: readonly Revocation[]): Revocations {
  const revoked = (what: string, { reason: why }: Revocation): Problem =>
    problem("KL_VERDICT_REVOKED", `${what} was revoked: ${why}.`);
  return {
    ofStatement(signed) {
      for (const item of list) {
        if (item.kind === "signer" && item.signer === signerName(signed.signer)) {
          const before = item.since !== undefined && signed.trustedTime && signed.trustedTime < new Date(item.since);
          if (!before) return revoked(`The signer ${item.signer}`, item);
        }
        if (item.kind === "statement" && item.payload === signed.payloadDigest) return revoked("The statement", item);
        if (item.kind === "builder" && builderOf(signed) === item.id) return revoked(`The builder ${item.id}`, item);
      }
      return undefined;
    },
    ofKernel(kernel) {
      const digests = new Set<Digest>([kernel.index, ...kernel.variants.map(({ manifest }) => manifest)]);
      return list.flatMap((item) => {
        if (item.kind === "digest" && digests.has(item.digest)) return [revoked(`The digest ${item.digest}`, item)];
        const hit =
          item.kind === "kernel" &&
          item.name === kernel.name &&
          semver.satisfies(kernel.version, item.versions, { includePrerelease: true });
        return hit ? [revoked(`${kernel.name} ${kernel.version}`, item)] : [];
      });
    },
  };
}

function builderOf({ statement }: SignedStatement<StatementSigner>): unknown {
  const details = statement.predicate.runDetails as { builder?: { id?: unknown } } | undefined;
  return details?.builder?.id;
}
