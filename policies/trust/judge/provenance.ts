import { includesSigner } from "../policy.ts";
import type {
  AcceptedStatement,
  KernelFacts,
  KernelSource,
  Policy,
  Requirement,
  Rule,
  StatementSigner,
} from "../types.ts";
import {
  accept,
  type Claim,
  checkParameters,
  checkScope,
  checkSubject,
  isHeard,
  type Opened,
  provenanceOf,
  scopeWords,
  signerId,
  signerName,
  signerWords,
} from "./evidence.ts";
import { allOf, anyOf, found, leaf, type Problem, problem } from "./tree.ts";

export interface ProvenanceResult {
  readonly node: Requirement;
  readonly accepted?: AcceptedStatement;
  /** When the accepted statement existed at the latest, by a trusted clock. */
  readonly trustedTime?: Date;
}

/** One claim under one rule: some provenance statement about it has to pass every check. */
export function judgeProvenance(
  policy: Policy,
  rule: Rule,
  kernel: KernelFacts,
  claim: Claim,
  opened: readonly Opened[],
): ProvenanceResult {
  const judged = opened
    .filter(({ subject }) => subject === claim.digest)
    .map((candidate) => judgeCandidate(policy, rule, kernel, claim, candidate));
  const best = judged.find(({ node }) => node.ok);
  const missing = problem("KL_VERDICT_MISSING", "There is no statement about it.");
  const what = `provenance of ${claim.variant === null ? "the index" : claim.variant}`;
  return {
    ...best,
    node: anyOf(
      what,
      judged.map(({ node }) => node),
      missing,
    ),
  };
}

/** The checks of one statement against one claim, in the order in which a reader would make them. */
function judgeCandidate(
  policy: Policy,
  rule: Rule,
  kernel: KernelFacts,
  claim: Claim,
  candidate: Opened,
): ProvenanceResult {
  const checks: Requirement[] = [];
  const check = (requirement: string, refusal: Problem | null, what?: string): boolean => {
    checks.push(what === undefined ? leaf(requirement, refusal) : found(requirement, refusal, what));
    return !refusal;
  };
  const done = (more: Omit<ProvenanceResult, "node"> = {}): ProvenanceResult => ({
    node: { ...allOf("one statement", checks), ...(candidate.bundle ? { evidence: candidate.bundle } : {}) },
    ...more,
  });

  if (!check("its signature holds, by a key of the policy", candidate.problem ?? null) || !isHeard(candidate)) {
    return done();
  }
  const { statement, signer, trustedTime } = candidate.signed;
  const provenance = provenanceOf(statement);
  const typed = provenance ? null : problem("KL_VERDICT_PREDICATE", "The statement is not SLSA provenance v1.");
  if (!check("it is SLSA provenance v1", typed) || !provenance) return done();
  const { externalParameters: parameters } = provenance.buildDefinition;
  const builder = provenance.runDetails.builder.id;
  const { repository, revision, ref } = parameters.source;

  const ok = [
    check("its only subject is this manifest under this name", checkSubject(statement, kernel.name, claim.digest)),
    check("it speaks about this scope", checkScope(parameters, claim), scopeWords(claim)),
    check("it names this package and version", checkParameters(parameters, kernel.name, kernel.version)),
    check("its signer is an allowed publisher", checkPublisher(policy, rule, signer), signerWords(signer)),
    check(
      "its builder is allowed and bound to that key",
      checkBuilder(policy, rule, builder, signerId(signer)),
      builder,
    ),
    check(
      "its source is the kernel's own",
      checkSource({ repository, revision }, kernel.source),
      `${repository} at ${revision}`,
    ),
    check("its source is allowed", checkSourceRule(rule, { repository, revision }, ref)),
  ].every(Boolean);
  if (!ok) return done();
  return done({
    accepted: { ...accept(candidate, claim), builder, source: { repository, revision } },
    ...(trustedTime === undefined ? {} : { trustedTime }),
  });
}

function checkPublisher(policy: Policy, rule: Rule, signer: StatementSigner): Problem | null {
  if (includesSigner(policy, rule.publishers, signerId(signer))) return null;
  return problem(
    "KL_VERDICT_PUBLISHER",
    `The signer ${signerName(signer)} is not a publisher that the rule ${rule.match} allows.`,
  );
}

/** A builder id is text that any signer can write; it counts only under a key that the policy binds to it. */
function checkBuilder(policy: Policy, rule: Rule, builder: string, keyId: string): Problem | null {
  if (rule.builders.some(({ id, keys }) => id === builder && includesSigner(policy, keys, keyId))) return null;
  return problem("KL_VERDICT_BUILDER", `The rule ${rule.match} allows no such builder under this key.`);
}

export function checkSource(source: KernelSource, own: KernelSource): Problem | null {
  if (source.repository === own.repository && source.revision === own.revision) return null;
  return problem("KL_VERDICT_SOURCE", "The statement names another source than the kernel's index.");
}

function checkSourceRule(rule: Rule, source: KernelSource, ref: string | undefined): Problem | null {
  const allowed = rule.sources.some(
    (wanted) =>
      wanted.repository === source.repository &&
      (wanted.revision === undefined || wanted.revision === source.revision) &&
      (wanted.ref === undefined || wanted.ref === ref),
  );
  return allowed ? null : problem("KL_VERDICT_SOURCE", `The rule ${rule.match} does not allow this source.`);
}
