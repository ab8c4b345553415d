import { type Digest, digestOf } from "@kernlock/kernels/format";
import { z } from "zod";
import type { Revocations } from "../advisories/revocations.ts";
import { includesSigner } from "../policy.ts";
import type { Authority, KernelFacts, Policy, Requirement, Waiver } from "../types.ts";
import { checkSubject, clockSkewMs, dayMs, type Heard, isHeard, open, signerId, signerName } from "./evidence.ts";
import { leaf, type Problem, problem } from "./tree.ts";

export const exceptionType = "https://kernlock.dev/policy/exception/v1";
export const breakGlassType = "https://kernlock.dev/policy/break-glass/v1";

/** What an exception can waive; an advisory is waived one by one, as `advisory:ID`. */
export const waivable = [
  "audit",
  "test",
  "sbom",
  "vsa",
  "rebuild",
  "licenses",
  "payloads",
  "ptx",
  "minimumAge",
  "minimumVersion",
] as const;

const time = z.iso.datetime({ offset: true });
const common = {
  package: z.string(),
  version: z.string(),
  reason: z.string().min(1, "says nothing").max(2000),
  issued: time,
  expires: time,
};
export const exceptionSchema = z.strictObject({
  ...common,
  waives: z
    .array(
      z
        .string()
        .refine(
          (text) => (waivable as readonly string[]).includes(text) || /^advisory:[!-~]{1,200}$/.test(text),
          `is nothing that can be waived (${waivable.join(", ")}, advisory:ID)`,
        ),
    )
    .min(1)
    .max(64),
});
export const breakGlassSchema = z.strictObject(common);

export interface Waivers {
  /** A waiver of this requirement of this kernel, if somebody has the right to give it and did. */
  find(requirement: string): Waiver | undefined;
  /** Every waiver that made a difference so far. */
  readonly used: readonly Waiver[];
  /** Documents that waive nothing, and why: an expired exception is worth a look. */
  readonly rejected: readonly Requirement[];
}

const defaultDays = { exception: 90, "break-glass": 7 } as const;

/**
 * Reads the exceptions and break-glass orders about one kernel version. A document counts once as many distinct people as
 * the policy demands have signed the very same bytes, each in a bundle of its own.
 */
export function readWaivers(policy: Policy, kernel: KernelFacts, now: Date, revocations: Revocations): Waivers {
  const groups = new Map<Digest, Heard[]>();
  const rejected: Requirement[] = [];
  for (const bundle of policy.documents?.exceptions ?? []) {
    const opened = open({ subject: kernel.index, bundle }, policy, now, revocations);
    if (isHeard(opened)) {
      const group = groups.get(opened.signed.payloadDigest) ?? [];
      groups.set(opened.signed.payloadDigest, [...group, opened]);
    } else rejected.push(leaf("an exception", opened.problem, opened.bundle ?? digestOf(bundle)));
  }
  const waivers: { waiver: Omit<Waiver, "requirement">; covers: (requirement: string) => boolean }[] = [];
  for (const [payload, group] of groups) {
    const read = readWaiver(policy, kernel, now, payload, group);
    if (read === null) continue;
    if ("code" in read) rejected.push(leaf("an exception", read, payload));
    else waivers.push(read);
  }
  const used: Waiver[] = [];
  return {
    rejected,
    used,
    find(requirement) {
      const found = waivers.find(({ covers }) => covers(requirement));
      if (found === undefined) return undefined;
      const waiver = { ...found.waiver, requirement };
      if (!used.some((u) => u.payload === waiver.payload && u.requirement === requirement)) used.push(waiver);
      return waiver;
    },
  };
}

/** Null for a document about another kernel, which is no business of this judgement. */
function readWaiver(policy: Policy, kernel: KernelFacts, now: Date, payload: Digest, group: readonly Heard[]) {
  const [first] = group;
  if (first === undefined) return null;
  const { statement } = first.signed;
  const kind = { [exceptionType]: "exception", [breakGlassType]: "break-glass" }[statement.predicateType] as
    | Waiver["kind"]
    | undefined;
  if (kind === undefined) return problem("KL_EXCEPTION_FORM", "What was signed is no exception.");
  if (checkSubject(statement, kernel.name, kernel.index) !== null) return null;
  const authority = kind === "exception" ? policy.exceptions : policy.breakGlass;
  if (authority === undefined)
    return problem(
      "KL_EXCEPTION_SIGNER",
      `The policy lets nobody sign ${kind === "exception" ? "an exception" : "a break-glass order"}.`,
    );
  const parsed = (kind === "exception" ? exceptionSchema : breakGlassSchema).safeParse(statement.predicate);
  if (!parsed.success) return problem("KL_EXCEPTION_FORM", "What was signed is no well-formed exception.");
  const { package: name, version, reason, issued, expires } = parsed.data;
  if (name !== kernel.name || version !== kernel.version) {
    return problem("KL_EXCEPTION_FORM", "The exception's words and its subject disagree.");
  }
  const entitled = group.filter(({ signed }) => includesSigner(policy, authority.by, signerId(signed.signer)));
  const refusal =
    checkWindow(issued, expires, now, authority.maxDays ?? defaultDays[kind]) ?? checkSigners(authority, entitled);
  if (refusal) return refusal;
  const waives = "waives" in parsed.data ? (parsed.data.waives as readonly string[]) : undefined;
  return {
    waiver: { kind, payload, reason, expires, signers: entitled.map(({ signed }) => signerName(signed.signer)).sort() },
    // A break-glass order waives whatever can be waived at all, and it alone violations and revocations.
    covers: (requirement: string) => waives === undefined || waives.includes(requirement),
  };
}

function checkWindow(issued: string, expires: string, now: Date, maxDays: number): Problem | null {
  const [from, to, at] = [Date.parse(issued), Date.parse(expires), now.getTime()];
  if (!(from <= at + clockSkewMs)) return problem("KL_EXCEPTION_FUTURE", `The exception begins at ${issued}.`);
  if (!(at < to)) return problem("KL_EXCEPTION_EXPIRED", `The exception ended at ${expires}.`);
  if (!(to - from <= maxDays * dayMs)) {
    return problem("KL_EXCEPTION_TOO_LONG", `The exception is for more than ${maxDays} days.`);
  }
  return null;
}

function checkSigners({ atLeast }: Authority, entitled: readonly Heard[]): Problem | null {
  const people = new Set(entitled.map(({ principal }) => principal));
  if (people.size === 0) return problem("KL_EXCEPTION_SIGNER", "Nobody who may give an exception signed it.");
  if (people.size < atLeast) {
    return problem("KL_EXCEPTION_THRESHOLD", `The exception needs ${atLeast} people, and ${people.size} signed it.`);
  }
  return null;
}
