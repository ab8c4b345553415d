import { type AuditQuestion, vouchedBy } from "../audits/audit.ts";
import type { AcceptedStatement, Demand, KernelFacts, LeafDemand, Policy, Requirement, Rule } from "../types.ts";
import { accept, type Claim, claimsOf, type Heard } from "./evidence.ts";
import { judgeStatement } from "./statements.ts";
import { allOf, closest, decided, firstProblem, type Problem, problem, waive } from "./tree.ts";
import type { Waivers } from "./waivers.ts";

export interface Scene {
  readonly policy: Policy;
  readonly rule: Rule;
  readonly kernel: KernelFacts;
  readonly heard: readonly Heard[];
  readonly now: Date;
  readonly waivers: Waivers;
  /** The principals that published this version. */
  readonly publishers: ReadonlySet<string>;
}

export interface Met {
  readonly node: Requirement;
  /** Who by its word alone meets the demand; "anybody" where it was waived. */
  readonly principals: ReadonlySet<string> | "anybody";
  readonly accepted: readonly AcceptedStatement[];
}

/** Judges a requirement tree. */
export function meet(demand: Demand, scene: Scene): Met {
  switch (demand.kind) {
    case "allOf": {
      const parts = demand.of.map((part) => meet(part, scene));
      return {
        node: allOf("all of these", nodes(parts)),
        principals: parts.map(({ principals }) => principals).reduce(intersect),
        accepted: parts.flatMap(({ accepted }) => accepted),
      };
    }
    case "anyOf": {
      const parts = demand.of.map((part) => meet(part, scene));
      const met = parts.filter(({ node }) => node.ok);
      const missing = problem("KL_VERDICT_REFUSED", "None of these is met.");
      return {
        node: decided("any of these", met.length > 0 ? null : (closest(nodes(parts)) ?? missing), nodes(parts)),
        principals: met.map(({ principals }) => principals).reduce(unite, new Set<string>()),
        accepted: met.flatMap(({ accepted }) => accepted),
      };
    }
    case "atLeast": {
      const parts = demand.of.map((part) => meet(part, scene));
      const met = parts.filter(({ node }) => node.ok);
      const people = distinct(met.map(({ principals }) => principals));
      const refusal =
        met.length < demand.count
          ? (closest(nodes(parts).filter(({ ok }) => !ok)) ?? threshold(demand.count, people))
          : people < demand.count
            ? threshold(demand.count, people)
            : null;
      return {
        node: decided(`at least ${demand.count} of these, by different people`, refusal, nodes(parts)),
        principals: new Set(),
        accepted: met.flatMap(({ accepted }) => accepted),
      };
    }
    default: {
      const met = demand.kind === "audit" ? meetAudit(demand, scene) : meetLeaf(demand, scene);
      if (met.node.ok) return met;
      const node = waive(met.node, scene.waivers.find(demand.kind));
      return node.ok ? { node, principals: "anybody", accepted: [] } : met;
    }
  }
}

const nodes = (parts: readonly Met[]) => parts.map(({ node }) => node);

const threshold = (wanted: number, found: number): Problem =>
  problem("KL_VERDICT_THRESHOLD", `${wanted} different people are needed, and ${found} vouch for it.`);

type Principals = Met["principals"];

function intersect(a: Principals, b: Principals): Principals {
  if (a === "anybody") return b;
  if (b === "anybody") return a;
  return a.intersection(b);
}

function unite(a: Principals, b: Principals): Principals {
  return a === "anybody" || b === "anybody" ? "anybody" : a.union(b);
}

/** How many of the parts can be given to different people: the largest matching between parts and principals. */
export function distinct(parts: readonly Principals[]): number {
  const takenBy = new Map<string, number>();
  let waived = 0;
  const place = (part: number, tried: Set<string>): boolean => {
    const principals = parts[part];
    if (principals === undefined || principals === "anybody") return false;
    for (const person of principals) {
      if (tried.has(person)) continue;
      tried.add(person);
      const holder = takenBy.get(person);
      if (holder === undefined || place(holder, tried)) {
        takenBy.set(person, part);
        return true;
      }
    }
    return false;
  };
  parts.forEach((principals, part) => {
    if (principals === "anybody") waived++;
    else place(part, new Set());
  });
  return takenBy.size + waived;
}

/** Who vouches for one claim, and on what that rests. */
interface Voices {
  readonly by: ReadonlyMap<string, readonly AcceptedStatement[]>;
  readonly candidates: readonly Requirement[];
  /** What no other voice outweighs. */
  readonly veto?: Problem | undefined;
}

/**
 * A word about the index covers all variants; one about a variant covers that one. A person meets the demand by covering
 * every variant that is used.
 */
function cover(
  scene: Scene,
  demand: LeafDemand,
  what: string,
  missing: Problem,
  ask: (claim: Claim) => Voices,
  lenient: (claim: Claim) => boolean = () => false,
): Met {
  const { index, variants } = claimsOf(scene.kernel);
  const whole = ask(index);
  const perVariant = variants.map((claim) => ({ claim, voices: ask(claim) }));
  const candidates = [...whole.candidates, ...perVariant.flatMap(({ voices }) => voices.candidates)];
  let people: ReadonlySet<string> = new Set(whole.by.keys());
  const veto = [whole, ...perVariant.map(({ voices }) => voices)].find((voices) => voices.veto)?.veto;
  let refusal: Problem | null = veto ?? null;
  const counted = perVariant.filter(({ claim }) => !lenient(claim));
  counted.forEach(({ claim, voices }, i) => {
    const here = new Set([...whole.by.keys(), ...voices.by.keys()]);
    if (here.size === 0) {
      const nearest = closest([...voices.candidates, ...whole.candidates]);
      refusal ??= nearest ?? { ...missing, reason: `${missing.reason} (${claim.variant})` };
    }
    people = i === 0 ? here : people.intersection(here);
  });
  if (perVariant.length === 0 && people.size === 0) refusal = closest(candidates) ?? missing;
  if (!refusal && perVariant.length > 0 && counted.length === 0) {
    return { node: decided(what, null, candidates), principals: "anybody", accepted: [] };
  }
  if (refusal === null && people.size < demand.atLeast) refusal = threshold(demand.atLeast, people.size);
  const accepted = [whole, ...perVariant.map(({ voices }) => voices)].flatMap(({ by }) =>
    [...by].flatMap(([person, statements]) => (people.has(person) ? statements : [])),
  );
  return { node: decided(what, refusal, candidates), principals: people, accepted: refusal === null ? accepted : [] };
}

function meetAudit(demand: Extract<LeafDemand, { kind: "audit" }>, scene: Scene): Met {
  const { policy, rule, kernel, heard, now, publishers } = scene;
  const parts = demand.criteria.map((criterion) => {
    const question: AuditQuestion = {
      ...{ policy, demand, criterion, heard, now, publishers },
      name: kernel.name,
      possiblePublishers: rule.publishers,
    };
    const missing = problem("KL_VERDICT_AUDIT_MISSING", `Nobody audited it for "${criterion}".`);
    return cover(scene, demand, `audited for "${criterion}"${often(demand)}`, missing, (claim) => {
      const { by, candidates } = vouchedBy(question, claim);
      const accepted = new Map(
        [...by].map(([person, links]) => [person, links.map((link) => accept(link.heard, link.claim))]),
      );
      return { by: accepted, candidates };
    });
  });
  const people = parts.map(({ principals }) => principals).reduce(intersect);
  const enough = people === "anybody" || people.size >= demand.atLeast;
  const all = allOf("audited", nodes(parts));
  const found = people === "anybody" ? 0 : people.size;
  return {
    node: all.ok && !enough ? decided("audited", threshold(demand.atLeast, found), nodes(parts)) : all,
    principals: people,
    accepted: parts.flatMap(({ accepted }) => accepted),
  };
}

function meetLeaf(demand: Exclude<LeafDemand, { kind: "audit" }>, scene: Scene): Met {
  const { kernel, heard } = scene;
  const missing = problem(
    missingCode[demand.kind],
    `There is no ${named[demand.kind]} about it by whom the rule names.`,
  );
  const suites = demand.kind === "test" ? demand.suites : [undefined];
  const ask = (suite: string | undefined) => (claim: Claim) => {
    const by = new Map<string, AcceptedStatement[]>();
    const candidates: Requirement[] = [];
    for (const item of heard.filter(({ subject }) => subject === claim.digest)) {
      const node = judgeStatement(demand, suite, scene, claim, item);
      if (node === null) continue;
      candidates.push(node);
      if (node.ok) by.set(item.principal, [...(by.get(item.principal) ?? []), accept(item, claim)]);
    }
    // A failed test by somebody whose word counts is not outweighed by one that passed.
    const failed = candidates.find(({ ok, code }) => !ok && code === "KL_VERDICT_TEST_FAILED");
    return { by, candidates, veto: failed && firstProblem(failed) };
  };
  const untested = (claim: Claim): boolean =>
    demand.kind === "test" &&
    scene.rule.untestedVariants &&
    ask(undefined)(claim).candidates.length === 0 &&
    ask(undefined)(claimsOf(kernel).index).candidates.length === 0;
  const parts = suites.map((suite) => {
    const what = `${named[demand.kind]}${suite === undefined ? "" : ` of ${suite}`}${often(demand)}`;
    return cover(scene, demand, what, missing, ask(suite), untested);
  });
  const [only] = parts;
  if (parts.length === 1 && only) return only;
  const people = parts.map(({ principals }) => principals).reduce(intersect);
  const all = allOf("tested", nodes(parts));
  return { node: all, principals: people, accepted: parts.flatMap(({ accepted }) => accepted) };
}

const often = ({ atLeast }: LeafDemand) => (atLeast > 1 ? `, by ${atLeast} people` : "");

const named = {
  test: "test result",
  sbom: "SBOM",
  vsa: "verification summary",
  rebuild: "reproduced build",
} as const;

const missingCode = {
  test: "KL_VERDICT_TEST_MISSING",
  sbom: "KL_VERDICT_SBOM_MISSING",
  vsa: "KL_VERDICT_VSA_MISSING",
  rebuild: "KL_VERDICT_REBUILD_MISSING",
} as const;
