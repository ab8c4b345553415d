import { canonicalJson, type Digest, digestOf } from "@kernlock/kernels/format";
import {
  advisoriesType,
  assertAllowed,
  auditType,
  breakGlassType,
  createBundle,
  type Documents,
  type Evidence,
  exceptionType,
  feedSubject,
  judge,
  type KernelFacts,
  type Policy,
  parsePolicy,
  revocationsType,
  type Signer,
  testType,
  withDocuments,
} from "../index.ts";
import { builderId, codeOf, fullEvidence, kernel, newKey, now, source, type TestKey } from "./material.ts";

/** People with real keys. Alice has two. */
export const people = {
  publisher: newKey(),
  alice: newKey("ed25519"),
  alice2: newKey(),
  bob: newKey(),
  carol: newKey(),
  security: newKey(),
  officer: newKey(),
} satisfies Record<string, TestKey>;
export type Person = keyof typeof people;

export const published = await fullEvidence(people.publisher);

/** A policy of one rule for acme/*, with more fields of the rule and of the policy as YAML. */
export function policyWith(rule = "", more = "", documents: Partial<Documents> = {}): Policy {
  const text = policyText(rule, more);
  return withDocuments(parsePolicy(text), { feeds: new Map(), exceptions: [], seen: {}, ...documents });
}

export function policyText(rule = "", more = ""): string {
  const keys = Object.entries(people).map(
    ([id, { pem }]) => `  ${id}-key:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n`,
  );
  const principals = ["publisher", "bob", "carol", "security", "officer"].map(
    (id) => `  ${id}: { keys: [${id}-key] }\n`,
  );
  return `version: 1
keys:
${keys.join("")}principals:
${principals.join("")}  alice: { keys: [alice-key, alice2-key] }
criteria:
  read: {}
  reviewed: { implies: [read] }
  audited: { implies: [reviewed] }
rules:
  - match: "acme/*"
    publishers: [publisher]
    builders: [{ id: "${builderId}", keys: [publisher] }]
    sources: [{ repository: "${source.repository}" }]
${rule.replaceAll(/^(?=.)/gm, "    ")}
numerics: { allowDequantization: false }
${more}`;
}

/** The code with which the kernel is refused, or "allowed". */
export function outcome(
  policy: Policy,
  evidence: readonly Evidence[] = [],
  options: { kernel?: KernelFacts; now?: Date; seen?: Record<string, number> } = {},
): string {
  const facts = options.kernel ?? kernel;
  const verdict = judge({
    policy,
    kernel: facts,
    evidence: [...published, ...evidence],
    now: options.now ?? now,
    seen: options.seen ?? {},
  });
  const code = codeOf(() => assertAllowed(verdict, facts));
  return code === "no refusal" ? "allowed" : code;
}

/** Signs any predicate about any manifest. */
export async function signed(
  signer: Signer,
  predicateType: string,
  predicate: object,
  subject: { name?: string; digest?: Digest; attachedTo?: Digest } = {},
): Promise<Evidence> {
  const digest = subject.digest ?? kernel.index;
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: subject.name ?? kernel.name, digest: { sha256: digest.slice(7) } }],
    predicateType,
    predicate,
  };
  return {
    subject: subject.attachedTo ?? digest,
    bundle: await createBundle(Buffer.from(JSON.stringify(statement)), signer),
  };
}

export interface AuditParts {
  readonly criteria?: string[];
  readonly result?: string;
  readonly version?: string;
  readonly digest?: Digest;
  readonly attachedTo?: Digest;
  readonly variant?: string | null;
  readonly issued?: string;
  readonly expires?: string;
  readonly from?: { version: string; digest: Digest };
  readonly kind?: string;
  readonly package?: string;
}

export function audit(by: Person, parts: AuditParts = {}): Promise<Evidence> {
  const { from, digest, attachedTo } = parts;
  const variant = parts.variant ?? null;
  const predicate = {
    kernlock: about({ ...parts, variant }),
    kind: parts.kind ?? (from ? "delta" : "full"),
    ...(from ? { from } : {}),
    criteria: parts.criteria ?? ["reviewed"],
    result: parts.result ?? "pass",
  };
  return signed(people[by], auditType, predicate, {
    ...(digest ? { digest } : {}),
    ...(attachedTo ? { attachedTo } : {}),
  });
}

export function about(parts: {
  package?: string;
  version?: string;
  variant?: string | null;
  issued?: string;
  expires?: string;
}) {
  const variant = parts.variant ?? null;
  return {
    package: parts.package ?? kernel.name,
    version: parts.version ?? kernel.version,
    variant,
    scope: variant === null ? "index" : "variant",
    issued: parts.issued ?? "2026-11-01T00:00:00Z",
    ...(parts.expires === undefined ? {} : { expires: parts.expires }),
  };
}

export function testResult(
  by: Person,
  parts: { suite?: string; device?: string; result?: string; variant?: string; digest?: Digest; issued?: string } = {},
): Promise<Evidence> {
  const predicate = {
    result: parts.result ?? "PASSED",
    configuration: [],
    kernlock: {
      ...about(parts),
      suite: parts.suite ?? "numerics",
      ...(parts.device === undefined ? {} : { device: parts.device }),
    },
  };
  return signed(people[by], testType, predicate, parts.digest ? { digest: parts.digest } : {});
}

export interface FeedParts {
  readonly feed?: string;
  readonly sequence?: number;
  readonly issued?: string;
  readonly expires?: string;
  readonly subjectName?: string;
  readonly type?: string;
  readonly digest?: Digest;
}

export async function feed(
  kind: "advisories" | "revocations",
  entries: readonly unknown[],
  by: Person = "security",
  parts: FeedParts = {},
): Promise<Uint8Array> {
  const predicate = {
    feed: parts.feed ?? "acme",
    sequence: parts.sequence ?? 7,
    issued: parts.issued ?? "2026-11-23T00:00:00Z",
    ...(parts.expires === undefined ? {} : { expires: parts.expires }),
    [kind]: entries,
  };
  const type = parts.type ?? (kind === "advisories" ? advisoriesType : revocationsType);
  const item = await signed(people[by], type, predicate, {
    name: parts.subjectName ?? feedSubject(predicate.feed),
    digest: parts.digest ?? digestOf(canonicalJson(predicate)),
  });
  return item.bundle;
}

export interface ExceptionParts {
  readonly waives?: string[];
  readonly issued?: string;
  readonly expires?: string;
  readonly digest?: Digest;
  readonly version?: string;
}

export async function exception(by: Person, parts: ExceptionParts = {}): Promise<Uint8Array> {
  return (await signed(people[by], exceptionType, { ...order(parts), waives: parts.waives ?? ["audit"] }, parts))
    .bundle;
}

export async function breakGlass(by: Person, parts: ExceptionParts = {}): Promise<Uint8Array> {
  return (await signed(people[by], breakGlassType, order(parts), parts)).bundle;
}

const order = (parts: ExceptionParts) => ({
  package: kernel.name,
  version: parts.version ?? kernel.version,
  reason: "The fix cannot wait.",
  issued: parts.issued ?? "2026-11-23T00:00:00Z",
  expires: parts.expires ?? "2026-11-26T00:00:00Z",
});
