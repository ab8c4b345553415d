import type { Policy } from "@kernlock/policies/trust";

/**
 * A policy under which nothing passes that did not exist so many days ago by a clock that the policy trusts. Where it
 * trusts none, or a statement carries no time, nothing does. What the policy lets waive a minimum age waives this too.
 */
export function coolDown(policy: Policy, days: number): Policy {
  if (days <= 0) return policy;
  const rules = policy.rules.map((rule) => ({ ...rule, minimumAgeDays: Math.max(days, rule.minimumAgeDays ?? 0) }));
  return { ...policy, rules };
}
