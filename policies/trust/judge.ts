import { type Digest, type ErrorCode, fail } from "@kernlock/kernels/format";
import { openFeed } from "./advisories/feeds.ts";
import { revocationsFrom } from "./advisories/revocations.ts";
import { auditOf, violations } from "./audits/audit.ts";
import { calls, checkCall } from "./border.ts";
import { meet } from "./judge/demands.ts";
import { type Claim, claimsOf, isHeard, type Opened, open, provenanceOf, signerId } from "./judge/evidence.ts";
import { judgeAdvisories, judgeGates } from "./judge/gates.ts";
import { judgeProvenance } from "./judge/provenance.ts";
import { allOf, firstProblem, leaf, problem, waive } from "./judge/tree.ts";
import { readWaivers, type Waivers } from "./judge/waivers.ts";
import { includesSigner, matches } from "./policy.ts";
import type { AcceptedStatement, Evidence, KernelFacts, Policy, Requirement, Rule, Verdict } from "./types.ts";

interface Question {
  readonly policy: Policy;
  readonly kernel: KernelFacts;
  readonly evidence: readonly Evidence[];
  readonly now: Date;
  /** Sequence numbers of feeds below which none is taken: those of a lock. */
  readonly seen?: Readonly<Record<string, number>>;
}

/**
 * Evidence and policy in, verdict out. Every rule that matches the kernel has to be satisfied, for the index and for
 * every variant, under this policy and under those above it. A kernel that no rule matches is refused. Never throws on
 * hostile evidence: a bundle that does not verify is a reason in the tree. KL_CALL_ARGUMENT, where the caller is wrong.
 */
export function judge(question: Question): Verdict {
  checkCall("judge", calls.judge, question);
  return judgeAll(question);
}

function judgeAll(question: Question): Verdict {
  const own = judgeUnder(question);
  const { above } = question.policy;
  if (above === undefined) return own;
  const { seen: _, ...rest } = question;
  const upper = judgeAll({ ...rest, policy: above });
  const ok = own.ok && upper.ok;
  const accepted = new Map([...own.accepted, ...upper.accepted].map((item) => [acceptedKey(item), item]));
  return {
    ok,
    mode: own.mode === "enforce" ? upper.mode : own.mode,
    tree: allOf(`${question.kernel.name} ${question.kernel.version} is allowed by both policies`, [
      { ...allOf("the operator's policy", [upper.tree]) },
      { ...allOf("the project's policy", [own.tree]) },
    ]),
    warnings: [...upper.warnings, ...own.warnings],
    waivers: [...upper.waivers, ...own.waivers],
    sequences: {
      ...Object.fromEntries(Object.entries(upper.sequences).map(([id, sequence]) => [`operator:${id}`, sequence])),
      ...own.sequences,
    },
    accepted: ok ? [...accepted.values()] : [],
  };
}

function judgeUnder({ policy, kernel, evidence, now, seen = {} }: Question): Verdict {
  const newest = (id: string): number =>
    Math.max(...[seen, policy.documents?.seen ?? {}].map((s) => (Object.hasOwn(s, id) ? (s[id] ?? 0) : 0)));
  const feeds = policy.feeds.map((feed) => openFeed(feed, policy, { [feed.id]: newest(feed.id) }, now));
  const revocations = revocationsFrom(feeds.flatMap((feed) => feed.revocations));
  const waivers = readWaivers(policy, kernel, now, revocations);
  // In an order that the evidence itself gives, so that the same bundles give the same verdict however they came.
  const opened = evidence
    .map((item) => open(item, policy, now, revocations))
    .sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));

  const digests = new Set<string>([kernel.index, ...kernel.variants.map(({ manifest }) => manifest)]);
  const advisories = judgeAdvisories(feeds, kernel, waivers);
  const general = [
    ...feeds.map(({ node }) => (node.ok ? node : waive(node, waivers.find("feeds")))),
    ...revocations
      .ofKernel(kernel)
      .map((found) => waive(leaf("it was not revoked", found), waivers.find("revocation"))),
    ...violations(policy, digests, opened.filter(isHeard)).map((node) => waive(node, waivers.find("violation"))),
    ...advisories.refusing,
  ];

  const matching = policy.rules.filter((rule) => matches(rule.match, kernel.name));
  const publishers = publishersOf(policy, matching, digests, opened);
  const judged = matching.map((rule) => ({
    rule,
    ...judgeRule({ policy, rule, kernel, opened, now, waivers, publishers }),
  }));
  const enforced = judged.filter(({ rule }) => rule.mode === "enforce");
  const warned = judged.filter(({ rule, node }) => rule.mode === "warn" && !node.ok);
  const tree =
    enforced.length === 0
      ? leaf(
          "a rule of the policy allows this kernel",
          problem("KL_POLICY_NO_RULE", `No rule of the policy matches ${kernel.name}.`),
        )
      : allOf(`${kernel.name} ${kernel.version} is allowed`, [...general, ...enforced.map(({ node }) => node)]);
  const accepted = new Map(enforced.flatMap((rule) => rule.accepted).map((item) => [acceptedKey(item), item]));
  return {
    ok: tree.ok,
    mode: waivers.used.some(({ kind }) => kind === "break-glass") ? "break-glass" : "enforce",
    tree,
    warnings: [...warned.map(({ node }) => node), ...advisories.warning, ...waivers.rejected],
    waivers: waivers.used,
    sequences: Object.fromEntries(
      feeds.flatMap(({ feed, sequence }) => (sequence === undefined ? [] : [[feed.id, sequence] as const])),
    ),
    accepted: tree.ok ? [...accepted.values()] : [],
  };
}

/** One bundle may speak for two manifests only if two statements were signed; so this names a statement. */
const acceptedKey = ({ bundle, subject }: AcceptedStatement): string => `${bundle.digest} ${subject}`;

function judgeRule(scene: {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly kernel: KernelFacts;
  readonly opened: readonly Opened[];
  readonly now: Date;
  readonly waivers: Waivers;
  readonly publishers: ReadonlySet<string>;
}): { node: Requirement; accepted: readonly AcceptedStatement[] } {
  const { policy, rule, kernel, opened, now, waivers } = scene;
  const { index, variants } = claimsOf(kernel);
  const claims: readonly Claim[] = [index, ...variants];
  const provenance = claims.map((claim) => judgeProvenance(policy, rule, kernel, claim, opened));
  const vouched = provenance.every(({ node }) => node.ok);
  const met = vouched && rule.require ? meet(rule.require, { ...scene, heard: opened.filter(isHeard) }) : undefined;
  const gates = vouched
    ? judgeGates(
        rule,
        kernel,
        provenance.map(({ trustedTime }) => trustedTime),
        now,
        waivers,
      )
    : [];
  return {
    node: allOf(`rule ${rule.match}`, [...provenance.map(({ node }) => node), ...gates, ...(met ? [met.node] : [])]),
    accepted: [...provenance.flatMap(({ accepted }) => accepted ?? []), ...(met?.accepted ?? [])],
  };
}

/** Who signed provenance of this version and may: whoever it is cannot also be the one who audited it. */
function publishersOf(
  policy: Policy,
  rules: readonly Rule[],
  digests: ReadonlySet<string>,
  opened: readonly Opened[],
): Set<string> {
  const allowed = rules.flatMap(({ publishers }) => publishers);
  return new Set(
    opened.flatMap((item) =>
      isHeard(item) &&
      digests.has(item.subject) &&
      provenanceOf(item.signed.statement) &&
      includesSigner(policy, allowed, signerId(item.signed.signer))
        ? [item.principal]
        : [],
    ),
  );
}

/** What a refused verdict says first. */
export function refusalOf(verdict: Verdict): { readonly code: ErrorCode; readonly reason: string } | undefined {
  checkCall("refusalOf", calls.verdict, verdict);
  return firstProblem(verdict.tree);
}

/** Throws what the tree says: the code and reason of its first refusal, with the tree in the details. */
export function assertAllowed(verdict: Verdict, kernel: Pick<KernelFacts, "name" | "version">): void {
  checkCall("assertAllowed", calls.verdict, verdict);
  if (verdict.ok) return;
  const refusal = refusalOf(verdict);
  fail(refusal?.code ?? "KL_VERDICT_REFUSED", `${kernel.name} ${kernel.version}: ${refusal?.reason ?? "refused."}`, {
    remedy: "Ask its publisher for evidence that the policy accepts, or have the policy's owner decide otherwise.",
    details: { kernel: kernel.name, version: kernel.version, verdict: verdict.tree },
  });
}

/**
 * Where the chains of delta audits lead, so that whoever gathers evidence can bring what is attached there too. Only
 * statements by keys of the policy are followed.
 */
export function auditBases(question: Pick<Question, "policy" | "evidence" | "now">): Digest[] {
  checkCall("auditBases", calls.auditBases, question);
  const { policy, evidence, now } = question;
  const bases = evidence
    .map((item) => open(item, policy, now))
    .flatMap((item) => (isHeard(item) ? (auditOf(item)?.from?.digest ?? []) : []));
  const above = policy.above === undefined ? [] : auditBases({ ...question, policy: policy.above });
  return [...new Set([...bases, ...above])];
}

/** By builder first: where several builders vouch, one of them is taken for all of a kernel. */
function orderOf({ signed, bundle }: Opened): string {
  const builder = signed && provenanceOf(signed.statement)?.runDetails.builder.id;
  return `${builder ?? ""} ${bundle}`;
}
