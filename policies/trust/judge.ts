import { type Digest, type ErrorCode, fail, KernlockError } from "@kernlock/kernels/format";
import { z } from "zod";
import { matches } from "./policy.ts";
import type {
  AcceptedStatement,
  Evidence,
  KernelFacts,
  KernelSource,
  Policy,
  Requirement,
  Rule,
  Scope,
  SignedStatement,
  Verdict,
} from "./types.ts";
import { verifyBundle } from "./verify.ts";

export const provenanceType = "https://slsa.dev/provenance/v1";

/** The parts of SLSA provenance v1 that the judgement reads; builders may write more. */
const provenanceSchema = z.looseObject({
  buildDefinition: z.looseObject({
    externalParameters: z.looseObject({
      package: z.string(),
      version: z.string(),
      variant: z.string().nullable(),
      scope: z.enum(["index", "variant"]),
      source: z.looseObject({ repository: z.string(), revision: z.string() }),
    }),
  }),
  runDetails: z.looseObject({ builder: z.looseObject({ id: z.string() }) }),
});
type Provenance = z.infer<typeof provenanceSchema>;

/** What has to be proved: one of these for the index and one for each variant that will be used. */
interface Claim {
  readonly scope: Scope;
  readonly variant: string | null;
  readonly digest: Digest;
}

/** A bundle once its signature was looked at: a statement, or the code and reason for which there is none. */
type Opened = { readonly bundle: Digest | undefined } & (
  | { readonly signed: SignedStatement; readonly problem?: undefined }
  | { readonly signed?: undefined; readonly problem: Problem }
);

interface Problem {
  readonly code: ErrorCode;
  readonly reason: string;
}

/**
 * Evidence and policy in, verdict out. Every rule that matches the kernel has to be satisfied, for the index and for
 * every variant; a claim is satisfied by one provenance statement that passes every check. A kernel that no rule
 * matches is refused. Never throws on hostile evidence: a bundle that does not verify is a reason in the tree.
 */
export function judge(request: {
  readonly policy: Policy;
  readonly kernel: KernelFacts;
  readonly evidence: readonly Evidence[];
  readonly now: Date;
}): Verdict {
  const { policy, kernel, evidence, now } = request;
  const claims: Claim[] = [
    { scope: "index", variant: null, digest: kernel.index },
    ...kernel.variants.map(({ key, manifest }) => ({ scope: "variant" as const, variant: key, digest: manifest })),
  ];
  // In an order that the evidence itself gives, so that the same bundles give the same verdict however they came.
  const opened = evidence
    .map((item) => ({ subject: item.subject, ...open(item.bundle, policy, now) }))
    .sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
  const rules = policy.rules.filter((rule) => matches(rule.match, kernel.name));
  const accepted = new Map<string, AcceptedStatement>();

  const judgeClaim = (rule: Rule, claim: Claim): Requirement => {
    const candidates = opened.filter(({ subject }) => subject === claim.digest);
    const judged = candidates.map((candidate) => judgeCandidate({ policy, rule, kernel, claim, candidate }));
    const best = judged.find(({ node }) => node.ok);
    if (best?.statement) accepted.set(`${best.statement.bundle.digest} ${claim.digest}`, best.statement);
    return anyOf(
      `provenance of ${claim.variant === null ? "the index" : claim.variant}`,
      judged.map(({ node }) => node),
    );
  };

  const tree =
    rules.length === 0
      ? leaf("a rule of the policy allows this kernel", {
          code: "KL_POLICY_NO_RULE",
          reason: `No rule of the policy matches ${kernel.name}.`,
        })
      : allOf(
          `${kernel.name} ${kernel.version} is allowed`,
          rules.map((rule) =>
            allOf(
              `rule ${rule.match}`,
              claims.map((claim) => judgeClaim(rule, claim)),
            ),
          ),
        );
  return { ok: tree.ok, tree, accepted: tree.ok ? [...accepted.values()] : [] };
}

/** Throws what the tree says: the code and reason of its first refusal, with the tree in the details. */
export function assertAllowed(verdict: Verdict, kernel: Pick<KernelFacts, "name" | "version">): void {
  if (verdict.ok) return;
  const problem = firstProblem(verdict.tree);
  fail(problem?.code ?? "KL_VERDICT_REFUSED", `${kernel.name} ${kernel.version}: ${problem?.reason ?? "refused."}`, {
    remedy: "Ask its publisher for evidence that the policy accepts, or have the policy's owner decide otherwise.",
    details: { kernel: kernel.name, version: kernel.version, verdict: verdict.tree },
  });
}

function firstProblem(node: Requirement): Problem | undefined {
  if (node.ok) return undefined;
  if (node.code !== undefined) return { code: node.code, reason: node.reason ?? "refused." };
  for (const child of node.children) {
    const problem = firstProblem(child);
    if (problem) return problem;
  }
  return undefined;
}

function open(bundle: Uint8Array, policy: Policy, now: Date): Opened {
  try {
    const signed = verifyBundle(bundle, { keys: policy.keys.values(), now });
    return { bundle: signed.bundleDigest, signed };
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return { bundle: error.details.bundle as Digest, problem: { code: error.code, reason: error.message } };
  }
}

/** By builder first: where several builders vouch, one of them is taken for all of a kernel. */
function orderOf({ signed, bundle }: Opened): string {
  const parsed = provenanceSchema.safeParse(signed?.statement.predicate);
  return `${parsed.data?.runDetails.builder.id ?? ""} ${bundle}`;
}

/** The checks of one statement against one claim, in the order in which a reader would make them. */
function judgeCandidate(request: {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly kernel: KernelFacts;
  readonly claim: Claim;
  readonly candidate: Opened;
}): { node: Requirement; statement?: AcceptedStatement } {
  const { policy, rule, kernel, claim, candidate } = request;
  const checks: Requirement[] = [];
  const check = (requirement: string, problem: Problem | null | false): boolean => {
    checks.push(leaf(requirement, problem || undefined));
    return !problem;
  };
  const done = (statement?: AcceptedStatement) => ({
    node: { ...allOf("one statement", checks), ...(candidate.bundle ? { evidence: candidate.bundle } : {}) },
    ...(statement ? { statement } : {}),
  });

  if (!check("its signature holds, by a key of the policy", candidate.problem ?? null)) return done();
  const { statement, signer, payloadDigest, bundleDigest, bundleSize } = candidate.signed as SignedStatement;
  const parsed = provenanceSchema.safeParse(statement.predicate);
  const isProvenance = statement.predicateType === provenanceType && parsed.success;
  const typed = isProvenance ? null : problem("KL_VERDICT_PREDICATE", "The statement is not SLSA provenance v1.");
  if (!check("it is SLSA provenance v1", typed)) return done();
  const provenance = parsed.data as Provenance;
  const { externalParameters: parameters } = provenance.buildDefinition;
  const builder = provenance.runDetails.builder.id;
  const source = { repository: parameters.source.repository, revision: parameters.source.revision };

  const ok = [
    check("its only subject is this manifest under this name", checkSubject(statement, kernel.name, claim.digest)),
    check("it speaks about this scope", checkScope(parameters, claim)),
    check("it names this package and version", checkParameters(parameters, kernel)),
    check("its signer is an allowed publisher", checkPublisher(policy, rule, signer.fingerprint)),
    check("its builder is allowed and bound to that key", checkBuilder(policy, rule, builder, signer.fingerprint)),
    check("its source is the kernel's own", checkSource(source, kernel.source)),
    check("its source is allowed", checkSourceRule(rule, source)),
  ].every(Boolean);
  if (!ok) return done();
  return done({
    scope: claim.scope,
    variant: claim.variant,
    predicateType: statement.predicateType,
    subject: claim.digest,
    payload: payloadDigest,
    bundle: { digest: bundleDigest, size: bundleSize },
    signer: signer.fingerprint,
    builder,
    source,
  });
}

const problem = (code: ErrorCode, reason: string): Problem => ({ code, reason });

/** One subject, one digest algorithm: whatever else a statement names, it might be about that instead. */
function checkSubject(statement: SignedStatement["statement"], name: string, digest: Digest): Problem | null {
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

type Parameters = Provenance["buildDefinition"]["externalParameters"];

function checkScope(parameters: Parameters, claim: Claim): Problem | null {
  if (parameters.scope === claim.scope && parameters.variant === claim.variant) return null;
  const wanted = claim.variant === null ? "the whole version" : `the variant ${claim.variant}`;
  return problem("KL_VERDICT_SCOPE", `The statement does not speak about ${wanted}.`);
}

function checkParameters(parameters: Parameters, kernel: KernelFacts): Problem | null {
  if (parameters.package === kernel.name && parameters.version === kernel.version) return null;
  return problem(
    "KL_VERDICT_PARAMETERS",
    `The statement is about a build of something else than ${kernel.name} ${kernel.version}.`,
  );
}

const isOneOf = (policy: Policy, ids: readonly string[], signer: Digest): boolean =>
  ids.some((id) => policy.keys.get(id)?.fingerprint === signer);

function checkPublisher(policy: Policy, rule: Rule, signer: Digest): Problem | null {
  if (isOneOf(policy, rule.publishers, signer)) return null;
  return problem("KL_VERDICT_PUBLISHER", `The signer ${signer} is not a publisher that the rule ${rule.match} allows.`);
}

/** A builder id is text that any signer can write; it counts only under a key that the policy binds to it. */
function checkBuilder(policy: Policy, rule: Rule, builder: string, signer: Digest): Problem | null {
  if (rule.builders.some(({ id, keys }) => id === builder && isOneOf(policy, keys, signer))) return null;
  return problem("KL_VERDICT_BUILDER", `The rule ${rule.match} allows no such builder under this key.`);
}

function checkSource(source: KernelSource, own: KernelSource): Problem | null {
  if (source.repository === own.repository && source.revision === own.revision) return null;
  return problem("KL_VERDICT_SOURCE", "The statement names another source than the kernel's index.");
}

function checkSourceRule(rule: Rule, source: KernelSource): Problem | null {
  const allowed = rule.sources.some(
    ({ repository, revision }) =>
      repository === source.repository && (revision === undefined || revision === source.revision),
  );
  return allowed ? null : problem("KL_VERDICT_SOURCE", `The rule ${rule.match} does not allow this source.`);
}

function leaf(requirement: string, refusal?: Problem): Requirement {
  return refusal === undefined
    ? { requirement, ok: true, children: [] }
    : { requirement, ok: false, code: refusal.code, reason: refusal.reason, children: [] };
}

function allOf(requirement: string, children: readonly Requirement[]): Requirement {
  return { requirement, ok: children.every(({ ok }) => ok), children };
}

/** When nothing will do, the statement that passed most checks says why: it is the one that was meant. */
function anyOf(requirement: string, children: readonly Requirement[]): Requirement {
  const chosen = children.find(({ ok }) => ok);
  if (chosen) return { requirement, ok: true, ...(chosen.evidence ? { evidence: chosen.evidence } : {}), children };
  const passed = (node: Requirement) => node.children.filter(({ ok }) => ok).length;
  const closest = children.toSorted((a, b) => passed(b) - passed(a))[0];
  const why = closest === undefined ? undefined : firstProblem(closest);
  return {
    requirement,
    ok: false,
    code: why?.code ?? "KL_VERDICT_MISSING",
    reason: why?.reason ?? "There is no statement about it.",
    children,
  };
}
