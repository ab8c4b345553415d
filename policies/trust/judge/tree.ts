import type { Digest, ErrorCode } from "@kernlock/kernels/format";
import type { Requirement, Waiver } from "../types.ts";

export interface Problem {
  readonly code: ErrorCode;
  readonly reason: string;
}

export const problem = (code: ErrorCode, reason: string): Problem => ({ code, reason });

export function leaf(requirement: string, refusal?: Problem | null, evidence?: Digest): Requirement {
  return {
    requirement,
    ok: !refusal,
    ...(evidence === undefined ? {} : { evidence }),
    ...(refusal ? { code: refusal.code, reason: refusal.reason } : {}),
    children: [],
  };
}

/** A leaf that says what was found where it is met; where it is not, the reason says so. */
export function found(requirement: string, refusal: Problem | null, what: string): Requirement {
  return { ...leaf(requirement, refusal), ...(refusal ? {} : { found: what }) };
}

export function allOf(requirement: string, children: readonly Requirement[]): Requirement {
  return { requirement, ok: children.every(({ ok }) => ok), children };
}

/** A node with a verdict of its own, which its children explain. */
export function decided(
  requirement: string,
  refusal: Problem | null,
  children: readonly Requirement[],
  evidence?: Digest,
): Requirement {
  return { ...leaf(requirement, refusal, evidence), children };
}

/** When nothing will do, the statement that passed most checks says why: it is the one that was meant. */
export function anyOf(requirement: string, children: readonly Requirement[], missing: Problem): Requirement {
  const chosen = children.find(({ ok }) => ok);
  if (chosen) return decided(requirement, null, children, chosen.evidence);
  return decided(requirement, closest(children) ?? missing, children);
}

/** The reason of the candidate that came nearest. A statement of another kind was never meant: it speaks last. */
export function closest(candidates: readonly Requirement[]): Problem | undefined {
  const passed = (node: Requirement) => node.children.filter(({ ok }) => ok).length;
  const meant = candidates.filter((node) => firstProblem(node)?.code !== "KL_VERDICT_PREDICATE");
  const best = (meant.length > 0 ? meant : candidates).toSorted((a, b) => passed(b) - passed(a))[0];
  return best && firstProblem(best);
}

/** What a refused tree says first. */
export function firstProblem(node: Requirement): Problem | undefined {
  if (node.ok) return undefined;
  if (node.code !== undefined) return { code: node.code, reason: node.reason ?? "refused." };
  for (const child of node.children) {
    const found = firstProblem(child);
    if (found) return found;
  }
  return undefined;
}

/** A refused node that somebody with the right to do so lets pass. It keeps saying what it would have refused. */
export function waive(node: Requirement, waiver: Waiver | undefined): Requirement {
  if (node.ok || waiver === undefined) return node;
  const why = firstProblem(node);
  return { ...node, ...(why ?? {}), ok: true, waivedBy: waiver.payload };
}
