import { type Digest, KernlockError } from "@kernlock/kernels/format";
import { z } from "zod";
import type { Revocations } from "../advisories/revocations.ts";
import type {
  AcceptedStatement,
  Evidence,
  KernelFacts,
  Policy,
  Scope,
  SignedStatement,
  Statement,
  StatementSigner,
} from "../types.ts";
import { verifyBundle } from "../verify.ts";
import { type Problem, problem } from "./tree.ts";

export const provenanceType = "https://slsa.dev/provenance/v1";
export const auditType = "https://kernlock.dev/attestation/audit/v1";
export const testType = "https://in-toto.io/attestation/test-result/v0.1";
export const sbomType = "https://cyclonedx.org/bom";
export const vsaType = "https://slsa.dev/verification_summary/v1";

/** How far clocks may be apart before a time counts as one to come. */
export const clockSkewMs = 5 * 60_000;
export const dayMs = 86_400_000;

/** What has to be vouched for: the index, or one variant. */
export interface Claim {
  readonly scope: Scope;
  readonly variant: string | null;
  readonly digest: Digest;
  readonly version: string;
}

export function claimsOf(kernel: KernelFacts): { index: Claim; variants: Claim[] } {
  const { version } = kernel;
  return {
    index: { scope: "index", variant: null, digest: kernel.index, version },
    variants: kernel.variants.map(({ key, manifest }) => ({
      scope: "variant",
      variant: key,
      digest: manifest,
      version,
    })),
  };
}

/** A bundle once its signature was looked at: a statement, or the code and reason for which there is none. */
type Signed = SignedStatement<StatementSigner>;
export type Opened = { readonly subject: Digest; readonly bundle: Digest | undefined } & (
  | { readonly signed: Signed; readonly principal: string; readonly problem?: undefined }
  | { readonly signed?: undefined; readonly problem: Problem }
);
export type Heard = Extract<Opened, { readonly principal: string }>;
export const isHeard = (opened: Opened): opened is Heard => opened.signed !== undefined;

/** Verifies one bundle. One that does not verify, or whose signer or statement was revoked, is a reason and no error. */
export function open(item: Evidence, policy: Policy, now: Date, revocations?: Revocations): Opened {
  const { subject } = item;
  try {
    const signed: Signed = verifyBundle(item.bundle, {
      keys: policy.keys.values(),
      identities: policy.identities.values(),
      ...(policy.times === undefined ? {} : { anchor: policy.times }),
      now,
    });
    const revoked = revocations?.ofStatement(signed);
    if (revoked) return { subject, bundle: signed.bundleDigest, problem: revoked };
    const id = signerId(signed.signer);
    return { subject, bundle: signed.bundleDigest, signed, principal: policy.owners.get(id)?.id ?? id };
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return {
      subject,
      bundle: error.details.bundle as Digest | undefined,
      problem: { code: error.code, reason: error.message },
    };
  }
}

/** The policy's name for whoever signed. */
export const signerId = (signer: StatementSigner): string => (signer.kind === "key" ? signer.keyId : signer.identityId);

/** How records and locks name a signer. */
export const signerName = (signer: StatementSigner): string =>
  signer.kind === "key" ? signer.fingerprint : `${signer.issuer} ${signer.san}`;

/** The same for people, with the policy's own name for whoever it is. */
export const signerWords = (signer: StatementSigner): string => `${signerId(signer)}, ${signerName(signer)}`;

/** What a claim is about, for people. */
export const scopeWords = ({ variant }: Claim): string =>
  variant === null ? "the whole version" : `the variant ${variant}`;

/** The parts of SLSA provenance v1 that the judgement reads; builders may write more. */
const provenanceSchema = z.looseObject({
  buildDefinition: z.looseObject({
    externalParameters: z.looseObject({
      package: z.string(),
      version: z.string(),
      variant: z.string().nullable(),
      scope: z.enum(["index", "variant"]),
      source: z.looseObject({ repository: z.string(), revision: z.string(), ref: z.string().optional() }),
    }),
  }),
  runDetails: z.looseObject({ builder: z.looseObject({ id: z.string() }) }),
});
export type Provenance = z.infer<typeof provenanceSchema>;

export function provenanceOf(statement: Statement): Provenance | undefined {
  if (statement.predicateType !== provenanceType) return undefined;
  const parsed = provenanceSchema.safeParse(statement.predicate);
  return parsed.success ? parsed.data : undefined;
}

const time = z.iso.datetime({ offset: true });
const aboutSchema = z.strictObject({
  package: z.string(),
  version: z.string(),
  variant: z.string().nullable(),
  scope: z.enum(["index", "variant"]),
  issued: time,
  expires: time.optional(),
});
/** What a statement other than provenance says that it is about: the member `kernlock` of its predicate. */
export type About = z.infer<typeof aboutSchema>;

/** CycloneDX allows no members of ours, so there they are properties of its metadata. */
export const bomSchema = z.looseObject({
  bomFormat: z.literal("CycloneDX"),
  specVersion: z.string(),
  metadata: z.looseObject({
    timestamp: time,
    properties: z.array(z.looseObject({ name: z.string(), value: z.string() })).max(256),
  }),
});

export function aboutOf({ predicateType, predicate }: Statement): About | undefined {
  if (predicateType !== sbomType) return aboutSchema.safeParse(predicate.kernlock).data;
  const bom = bomSchema.safeParse(predicate).data;
  if (bom === undefined) return undefined;
  const given = bom.metadata.properties.filter(({ name }) => name.startsWith("kernlock:"));
  const fields = new Map(given.map(({ name, value }) => [name.slice("kernlock:".length), value]));
  if (fields.size !== given.length) return undefined;
  return aboutSchema.safeParse({
    variant: null,
    ...Object.fromEntries(fields),
    issued: bom.metadata.timestamp,
  }).data;
}

/** One subject, one digest algorithm: whatever else a statement names, it might be about that instead. */
export function checkSubject(statement: Statement, name: string, digest: Digest): Problem | null {
  const [subject, ...others] = statement.subject;
  const algorithms = Object.keys(subject?.digest ?? {});
  const exact =
    others.length === 0 &&
    subject?.name === name &&
    algorithms.length === 1 &&
    `sha256:${subject.digest.sha256}` === digest;
  return exact
    ? null
    : problem("KL_VERDICT_SUBJECT", `The statement is not about ${name} with digest ${digest} alone.`);
}

export function checkScope(given: Pick<About, "scope" | "variant">, claim: Claim): Problem | null {
  if (given.scope === claim.scope && given.variant === claim.variant) return null;
  return problem("KL_VERDICT_SCOPE", `The statement does not speak about ${scopeWords(claim)}.`);
}

export function checkParameters(
  given: Pick<About, "package" | "version">,
  name: string,
  version: string,
): Problem | null {
  if (given.package === name && given.version === version) return null;
  return problem("KL_VERDICT_PARAMETERS", `The statement is about something else than ${name} ${version}.`);
}

/** Not yet issued, expired, or older than is taken. */
export function checkTimes(about: About, now: Date, maxAgeDays: number | undefined): Problem | null {
  const at = now.getTime();
  const issued = Date.parse(about.issued);
  // Written so that a clock that is no date fails every comparison, and with it the check.
  if (!(issued <= at + clockSkewMs))
    return problem("KL_VERDICT_FUTURE", `The statement was issued at ${about.issued}.`);
  if (about.expires !== undefined && !(at < Date.parse(about.expires))) {
    return problem("KL_VERDICT_EXPIRED", `The statement expired at ${about.expires}.`);
  }
  if (maxAgeDays !== undefined && !(at - issued <= maxAgeDays * dayMs)) {
    return problem("KL_VERDICT_EXPIRED", `The statement is older than ${maxAgeDays} days.`);
  }
  return null;
}

export function accept({ signed }: Heard, claim: Claim): AcceptedStatement {
  return {
    scope: claim.scope,
    variant: claim.variant,
    predicateType: signed.statement.predicateType,
    subject: claim.digest,
    payload: signed.payloadDigest,
    bundle: { digest: signed.bundleDigest, size: signed.bundleSize },
    signer: signerName(signed.signer),
  };
}
