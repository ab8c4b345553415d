import { type Digest, fields } from "@kernlock/kernels/format";
import { z } from "zod";
import {
  type About,
  aboutOf,
  auditType,
  type Claim,
  checkParameters,
  checkScope,
  checkSubject,
  checkTimes,
  type Heard,
  signerId,
  signerName,
} from "../judge/evidence.ts";
import { allOf, leaf, type Problem, problem } from "../judge/tree.ts";
import { includesSigner } from "../policy.ts";
import type { Criterion, Demand, LeafDemand, Policy, Requirement } from "../types.ts";

/** A chain of delta audits may have so many links; who needs more should audit the whole again. */
const maxChain = 16;

export const auditSchema = z.looseObject({
  kind: z.enum(["full", "delta"]),
  /** Of a delta: the manifest of the same scope in the version from which the differences were read. */
  from: z.strictObject({ version: fields.version, digest: fields.digest }).optional(),
  criteria: z.array(z.string()).min(1).max(64),
  result: z.enum(["pass", "violation"]),
});
export type Audit = z.infer<typeof auditSchema>;

export function auditOf({ signed: { statement } }: Heard): Audit | undefined {
  if (statement.predicateType !== auditType) return undefined;
  const parsed = auditSchema.safeParse(statement.predicate).data;
  return parsed && (parsed.kind === "delta") === (parsed.from !== undefined) ? parsed : undefined;
}

/** The demanded criterion itself, or one that implies it, directly or through others. */
export function satisfies(criteria: ReadonlyMap<string, Criterion>, given: readonly string[], wanted: string): boolean {
  const seen = new Set<string>();
  const implied = (id: string): boolean => {
    if (id === wanted) return true;
    if (seen.has(id)) return false;
    seen.add(id);
    return (criteria.get(id)?.implies ?? []).some(implied);
  };
  return given.some(implied);
}

/** The people whom some rule names as auditors, by whatever key: from them, a violation is heard about every kernel. */
export function auditorsOf(policy: Policy): Set<string> {
  const ids = new Set<string>();
  const walk = (demand: Demand): void => {
    if ("of" in demand) demand.of.forEach(walk);
    else if (demand.kind === "audit") for (const id of demand.by) ids.add(policy.owners.get(id)?.id ?? id);
  };
  for (const { require } of policy.rules) if (require) walk(require);
  return ids;
}

/** Violations that named auditors found in any of these manifests. They do not expire, and no pass outweighs them. */
export function violations(policy: Policy, digests: ReadonlySet<string>, heard: readonly Heard[]): Requirement[] {
  const auditors = auditorsOf(policy);
  return heard
    .filter((item) => {
      const { statement } = item.signed;
      return (
        // Read as widely as can be: neither scope nor form nor further subjects save what a violation names.
        statement.predicateType === auditType &&
        statement.predicate.result === "violation" &&
        statement.subject.some(({ digest }) => digests.has(`sha256:${digest.sha256}`)) &&
        auditors.has(item.principal)
      );
    })
    .map((item) =>
      leaf(
        "no auditor found a violation",
        problem("KL_VERDICT_AUDIT_VIOLATION", `The auditor "${item.principal}" found a violation in it.`),
        item.bundle,
      ),
    );
}

export interface AuditQuestion {
  readonly policy: Policy;
  readonly demand: Extract<LeafDemand, { kind: "audit" }>;
  readonly criterion: string;
  readonly name: string;
  readonly heard: readonly Heard[];
  readonly now: Date;
  /** Who published this version, and for earlier versions of a chain who may have. */
  readonly publishers: ReadonlySet<string>;
  readonly possiblePublishers: readonly string[];
}

export interface Vouched {
  /** Principal -> the statements on which its word rests, those of a chain included. */
  readonly by: ReadonlyMap<string, readonly { heard: Heard; claim: Claim }[]>;
  readonly candidates: readonly Requirement[];
}

/**
 * Who vouches for one manifest under one criterion: by a full audit, or by a delta audit from a manifest for which as
 * many auditors as the demand names vouch in the same way.
 */
export function vouchedBy(question: AuditQuestion, claim: Claim, chain: readonly Digest[] = []): Vouched {
  const by = new Map<string, { heard: Heard; claim: Claim }[]>();
  const candidates: Requirement[] = [];
  const { policy, heard, name } = question;
  const here = heard.filter(
    ({ subject, signed }) => subject === claim.digest && signed.statement.predicateType === auditType,
  );
  // What a violation names is no base for anything.
  const spoiled = chain.length > 0 ? violations(policy, new Set([claim.digest]), heard) : [];
  if (spoiled.length > 0) return { by, candidates: spoiled };
  for (const item of here) {
    const { statement, signer } = item.signed;
    const about = aboutOf(statement);
    const audit = auditOf(item);
    const checks: Requirement[] = [leaf("it is an audit", audit && about ? null : malformed)];
    const rest: { heard: Heard; claim: Claim }[] = [{ heard: item, claim }];
    if (audit && about) {
      checks.push(
        leaf("its only subject is this manifest under this name", checkSubject(statement, name, claim.digest)),
        leaf("it speaks about this scope", checkScope(about, claim)),
        leaf("it names this package and version", checkParameters(about, name, claim.version)),
        leaf("its signer is an auditor whom the rule names", checkAuditor(question, item, chain.length > 0)),
        leaf("it holds at this time", checkTimes(about, question.now, question.demand.maxAgeDays)),
        leaf(
          "it says pass",
          audit.result === "pass" ? null : problem("KL_VERDICT_AUDIT_VIOLATION", "It says violation."),
        ),
        leaf(`it is for the criterion ${question.criterion}`, checkCriterion(question, audit)),
      );
      if (checks.every(({ ok }) => ok) && audit.from) {
        checks.push(checkBase(question, claim, about, audit.from, chain, rest));
      }
    }
    const node = allOf(`an audit by "${item.principal}" (${signerName(signer)})`, checks);
    candidates.push(item.bundle ? { ...node, evidence: item.bundle } : node);
    if (node.ok) by.set(item.principal, [...(by.get(item.principal) ?? []), ...rest]);
  }
  return { by, candidates };
}

const malformed = problem("KL_VERDICT_AUDIT_FORM", "The statement is no well-formed audit.");

function checkAuditor(question: AuditQuestion, { signed, principal }: Heard, earlier: boolean): Problem | null {
  const { policy, demand, publishers, possiblePublishers } = question;
  if (!includesSigner(policy, demand.by, signerId(signed.signer))) {
    return problem("KL_VERDICT_AUDITOR", `"${principal}" is not an auditor whom the rule names.`);
  }
  const own =
    publishers.has(principal) || (earlier && includesSigner(policy, possiblePublishers, signerId(signed.signer)));
  return own ? problem("KL_VERDICT_SELF_AUDIT", `"${principal}" published what it audits.`) : null;
}

function checkCriterion({ policy, criterion }: AuditQuestion, audit: Audit): Problem | null {
  if (satisfies(policy.criteria, audit.criteria, criterion)) return null;
  return problem("KL_VERDICT_AUDIT_CRITERIA", `The audit is not for the criterion "${criterion}".`);
}

function checkBase(
  question: AuditQuestion,
  claim: Claim,
  about: About,
  from: NonNullable<Audit["from"]>,
  chain: readonly Digest[],
  rest: { heard: Heard; claim: Claim }[],
): Requirement {
  const what = `what it builds on, ${about.package} ${from.version}, was audited`;
  const path = [...chain, claim.digest];
  if (path.includes(from.digest) || path.length >= maxChain) {
    return leaf(what, problem("KL_VERDICT_AUDIT_BASE", "The chain of delta audits does not end."));
  }
  const base = vouchedBy(question, { ...claim, digest: from.digest, version: from.version }, path);
  if (base.by.size < question.demand.atLeast) {
    const reason = `The version ${from.version}, on which the delta audit builds, has not been audited as demanded.`;
    return { ...leaf(what, problem("KL_VERDICT_AUDIT_BASE", reason)), children: base.candidates };
  }
  for (const links of base.by.values()) rest.push(...links);
  return { ...leaf(what), children: base.candidates };
}
