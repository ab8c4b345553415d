import type { ErrorCode } from "@kernlock/kernels/format";
import { calls, checkCall } from "../border.ts";
import { isHeard, open } from "../judge/evidence.ts";
import { breakGlassSchema, breakGlassType, exceptionSchema, exceptionType } from "../judge/waivers.ts";
import { includesSigner } from "../policy.ts";
import type { Demand, Policy } from "../types.ts";

export interface Finding {
  readonly severity: "error" | "warning";
  readonly code: ErrorCode;
  readonly message: string;
}

/** What is wrong with a policy that is well-formed: mostly, that it does not say what its author thinks. */
export function lintPolicy(policy: Policy, now: Date): Finding[] {
  checkCall("lintPolicy", calls.lintPolicy, { policy, now });
  return [
    ...wildcards(policy),
    ...keys(policy, now),
    ...criteria(policy),
    ...demands(policy),
    ...modes(policy),
    ...feeds(policy),
    ...authorities(policy),
    ...exceptions(policy, now),
  ];
}

const error = (code: ErrorCode, message: string): Finding => ({ severity: "error", code, message });
const warning = (code: ErrorCode, message: string): Finding => ({ severity: "warning", code, message });

/** A namespace is the unit in which trust is given; a pattern that crosses all of them gives it to everybody. */
function wildcards({ rules }: Policy): Finding[] {
  return rules.flatMap(({ match, mode }) => {
    if (mode !== "enforce" || !/^[^/]*\*/.test(match)) return [];
    return /^\*\//.test(match)
      ? error("KL_LINT_WILDCARD", `The pattern "${match}" is about every namespace.`)
      : warning("KL_LINT_WILDCARD", `The pattern "${match}" is also about namespaces that somebody may yet make.`);
  });
}

/** Every name that the policy uses, of keys, identities and principals. */
function usedNames({ rules, feeds, exceptions, breakGlass, approval }: Policy): Set<string> {
  const used = new Set<string>();
  const add = (ids: readonly string[] = []) => {
    for (const id of ids) used.add(id);
  };
  for (const rule of rules) {
    add(rule.publishers);
    for (const builder of rule.builders) add(builder.keys);
    if (rule.require) for (const leaf of leavesOf(rule.require)) add(leaf.by);
  }
  for (const feed of feeds) add(feed.by);
  for (const authority of [exceptions, breakGlass, approval]) add(authority?.by);
  return used;
}

function keys(policy: Policy, now: Date): Finding[] {
  const used = usedNames(policy);
  const unused = [...policy.owners]
    .filter(([id, owner]) => !used.has(id) && !used.has(owner.id))
    .map(([id]) => error("KL_LINT_UNUSED_KEY", `Nothing names the key "${id}"; remove it.`));
  const expired = [...policy.keys.values()]
    .filter(({ validUntil }) => validUntil !== undefined && validUntil <= now)
    .map(({ id }) => error("KL_LINT_EXPIRED_KEY", `The key "${id}" is no longer valid; remove it.`));
  return [...unused, ...expired];
}

function leavesOf(demand: Demand): Extract<Demand, { by: readonly string[] }>[] {
  return "of" in demand ? demand.of.flatMap(leavesOf) : [demand];
}

function criteria(policy: Policy): Finding[] {
  const used = new Set<string>();
  const use = (id: string): void => {
    if (used.has(id)) return;
    used.add(id);
  };
  for (const { require } of policy.rules) {
    for (const leaf of require ? leavesOf(require) : []) if (leaf.kind === "audit") leaf.criteria.forEach(use);
  }
  // One that implies a demanded criterion is of use as well.
  const helps = (id: string): boolean => used.has(id) || (policy.criteria.get(id)?.implies ?? []).some(helps);
  return [...policy.criteria.keys()]
    .filter((id) => !helps(id))
    .map((id) => warning("KL_LINT_UNUSED_CRITERION", `No rule demands the criterion "${id}".`));
}

function demands(policy: Policy): Finding[] {
  const findings: Finding[] = [];
  const people = (ids: readonly string[]) => new Set(ids.map((id) => policy.owners.get(id)?.id ?? id));
  for (const rule of policy.rules) {
    const publishers = people(rule.publishers);
    for (const leaf of rule.require ? leavesOf(rule.require) : []) {
      if (leaf.kind === "sbom" || leaf.kind === "test") continue;
      const others = people(leaf.by).difference(publishers);
      // With several publishers one can vouch for the other; with one, it would be its own word.
      if (publishers.size === 1 && others.size < leaf.atLeast) {
        const message = `In the rule "${rule.match}", ${leaf.atLeast} people besides the publisher have to vouch, and ${others.size} are named.`;
        findings.push(error("KL_LINT_UNREACHABLE", message));
      }
    }
  }
  return findings;
}

function modes({ rules }: Policy): Finding[] {
  const enforced = new Set(rules.filter(({ mode }) => mode === "enforce").map(({ match }) => match));
  return rules
    .filter(({ match, mode }) => mode === "warn" && !enforced.has(match))
    .map(({ match }) =>
      warning("KL_LINT_WARN_ONLY", `The rule "${match}" only warns; it allows nothing unless another rule does.`),
    );
}

function feeds(policy: Policy): Finding[] {
  return policy.feeds
    .filter(({ by }) => by === undefined)
    .map(({ id }) =>
      warning("KL_LINT_UNSIGNED_FEED", `The feed "${id}" is not signed: nobody notices when an entry is missing.`),
    );
}

function authorities(policy: Policy): Finding[] {
  const publishers = policy.rules.flatMap((rule) => rule.publishers);
  const findings: Finding[] = [];
  for (const [name, authority] of [
    ["exceptions", policy.exceptions],
    ["breakGlass", policy.breakGlass],
  ] as const) {
    const own = authority?.by.filter(
      (id) =>
        publishers.includes(id) ||
        includesSigner(policy, publishers, id) ||
        publishers.some((p) => includesSigner(policy, [id], p)),
    );
    if (authority && own && own.length >= authority.atLeast) {
      findings.push(
        error("KL_LINT_PUBLISHER_AUTHORITY", `${name}: publishers ("${own.join('", "')}") could free themselves.`),
      );
    }
  }
  return findings;
}

function exceptions(policy: Policy, now: Date): Finding[] {
  return (policy.documents?.exceptions ?? []).flatMap((bundle, i) => {
    const opened = open({ subject: policy.digest, bundle }, policy, now);
    const is = (what: string) => [error("KL_LINT_EXPIRED_EXCEPTION", `The exception number ${i + 1} ${what}.`)];
    if (!isHeard(opened)) return is(`does not count: ${opened.problem.reason.replace(/\.$/, "")}`);
    const { predicateType, predicate } = opened.signed.statement;
    const schema = { [exceptionType]: exceptionSchema, [breakGlassType]: breakGlassSchema }[predicateType];
    const parsed = schema?.safeParse(predicate);
    if (!parsed?.success) return is("is not well-formed");
    return Date.parse(parsed.data.expires) <= now.getTime() ? is(`ended at ${parsed.data.expires}; remove it`) : [];
  });
}
