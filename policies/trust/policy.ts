import { type Digest, digestOf, type ErrorCode, fail, KernlockError } from "@kernlock/kernels/format";
import { calls, checkCall } from "./border.ts";
import { trustedKey } from "./keys.ts";
import { type DemandText, type PolicyText, policySchema } from "./policy/schema.ts";
import { readYaml } from "./policy/yaml.ts";
import { firstIssue } from "./shape.ts";
import type { Authority, Criterion, Demand, Documents, Feed, Policy, Principal, Rule, TrustedKey } from "./types.ts";
import { parseTrustedRoot, type TrustedRoot } from "./verify/root.ts";
import type { TrustedIdentity } from "./verify/types.ts";

function refuse(code: ErrorCode, message: string): never {
  return fail(code, message, { remedy: "Correct the policy file; docs/policy.md describes it." });
}

/** sha256 of the policy file's bytes. */
export function policyDigest(policy: Uint8Array | string): Digest {
  checkCall("policyDigest", calls.document, { document: policy });
  return digestOf(typeof policy === "string" ? Buffer.from(policy) : policy);
}

/**
 * Reads `kernels.policy.yaml`. A policy means what a person reads in it: no aliases, anchors, tags, merge keys,
 * duplicate or unknown fields, and one document.
 * Throws KL_POLICY_SYNTAX (YAML), KL_POLICY_FIELD (form), KL_POLICY_KEY (a key), KL_POLICY_PRINCIPAL (who owns a key),
 * KL_POLICY_ROOT (a trusted root), KL_POLICY_CRITERIA (an unknown criterion, or a circle of them), KL_POLICY_REFERENCE (an unknown key or principal),
 * KL_POLICY_THRESHOLD (more people demanded than are named).
 */
export function parsePolicy(policy: Uint8Array | string): Policy {
  checkCall("parsePolicy", calls.document, { document: policy });
  const parsed = policySchema.safeParse(readYaml(policy));
  if (!parsed.success) {
    return refuse("KL_POLICY_FIELD", `The policy is not of the expected form: ${firstIssue(parsed.error)}.`);
  }
  const written = parsed.data;
  const keys = readKeys(written.keys);
  const roots = readRoots(written.roots ?? {});
  const identities = readIdentities(written.identities ?? {}, roots);
  for (const id of identities.keys()) {
    if (keys.has(id)) refuse("KL_POLICY_PRINCIPAL", `"${id}" is the name of a key and of an identity.`);
  }
  const owners = readPrincipals(written.principals ?? {}, new Set([...keys.keys(), ...identities.keys()]));
  const names = { owners };
  const criteria = readCriteria(written.criteria ?? {});
  const optional = (value: Authority | undefined, field: "exceptions" | "breakGlass" | "approval") =>
    value === undefined ? {} : { [field]: value };
  return {
    version: written.version,
    digest: policyDigest(policy),
    keys,
    identities,
    ...(written.times === undefined ? {} : { times: { root: rootOf(roots, written.times.root, "times") } }),
    owners,
    criteria,
    rules: written.rules.map((rule) => readRule(rule, names, criteria)),
    feeds: [
      ...(written.advisories ?? []).map((feed) => readFeed("advisories", feed, names)),
      ...(written.revocations ?? []).map((feed) => readFeed("revocations", feed, names)),
    ].map(uniqueFeeds()),
    ...optional(authority(written.exceptions, "exceptions", names), "exceptions"),
    ...optional(authority(written.breakGlass, "breakGlass", names), "breakGlass"),
    ...optional(authority(written.approval, "approval", names), "approval"),
    numerics: written.numerics,
    confinement: written.confinement ?? "required",
    ...(written.registry === undefined ? {} : { registry: written.registry }),
  };
}

function readKeys(entries: PolicyText["keys"]): Map<string, TrustedKey> {
  const keys = new Map<string, TrustedKey>();
  const owners = new Map<Digest, string>();
  for (const [id, { pem, validFrom, validUntil }] of Object.entries(entries)) {
    const key = trustedKey(id, pem, {
      ...(validFrom === undefined ? {} : { validFrom: new Date(validFrom) }),
      ...(validUntil === undefined ? {} : { validUntil: new Date(validUntil) }),
    });
    // One key under two names could count as two people, or slip out of the narrower of two windows.
    const owner = owners.get(key.fingerprint);
    if (owner !== undefined) refuse("KL_POLICY_KEY", `The keys "${owner}" and "${id}" are the same key.`);
    owners.set(key.fingerprint, id);
    keys.set(id, key);
  }
  return keys;
}

function readRoots(entries: NonNullable<PolicyText["roots"]>): Map<string, TrustedRoot> {
  return new Map(
    Object.entries(entries).map(([id, { json }]) => {
      try {
        return [id, parseTrustedRoot(Buffer.from(json))];
      } catch (error) {
        const why = error instanceof KernlockError ? error.message : "it cannot be read.";
        return refuse("KL_POLICY_ROOT", `The trusted root "${id}": ${why}`);
      }
    }),
  );
}

function rootOf(roots: ReadonlyMap<string, TrustedRoot>, id: string, where: string): TrustedRoot {
  return roots.get(id) ?? refuse("KL_POLICY_REFERENCE", `${where} names the unknown root "${id}".`);
}

function readIdentities(
  entries: NonNullable<PolicyText["identities"]>,
  roots: ReadonlyMap<string, TrustedRoot>,
): Map<string, TrustedIdentity> {
  const identities = new Map<string, TrustedIdentity>();
  const known = new Map<string, string>();
  for (const [id, { root, issuer, san }] of Object.entries(entries)) {
    const other = known.get(`${issuer} ${san} ${root}`);
    if (other !== undefined) refuse("KL_POLICY_KEY", `The identities "${other}" and "${id}" are the same.`);
    known.set(`${issuer} ${san} ${root}`, id);
    identities.set(id, { id, issuer, san, root: rootOf(roots, root, `The identity "${id}"`) });
  }
  return identities;
}

/** Keys and identities with their owners. */
interface Names {
  readonly owners: ReadonlyMap<string, Principal>;
}

function readPrincipals(
  entries: NonNullable<PolicyText["principals"]>,
  keys: ReadonlySet<string>,
): Map<string, Principal> {
  const owners = new Map<string, Principal>();
  for (const [id, principal] of Object.entries(entries)) {
    // One namespace for both, so that a name in a rule cannot be read in two ways.
    if (keys.has(id)) refuse("KL_POLICY_PRINCIPAL", `"${id}" is the name of a key and of a principal.`);
    for (const key of principal.keys) {
      if (!keys.has(key)) refuse("KL_POLICY_REFERENCE", `The principal "${id}" names the unknown key "${key}".`);
      const other = owners.get(key);
      if (other) refuse("KL_POLICY_PRINCIPAL", `The key "${key}" belongs to "${other.id}" and to "${id}".`);
      owners.set(key, { id, keys: principal.keys });
    }
  }
  for (const id of keys) if (!owners.has(id)) owners.set(id, { id, keys: [id] });
  return owners;
}

/** KL_POLICY_REFERENCE where a name is nobody's, KL_POLICY_THRESHOLD where more people are demanded than are named. */
function known(ids: readonly string[], where: string, { owners }: Names, atLeast = 1): void {
  const principals = new Set([...owners.values()].map(({ id }) => id));
  for (const id of ids) {
    if (!owners.has(id) && !principals.has(id))
      refuse("KL_POLICY_REFERENCE", `${where} names the unknown key "${id}".`);
  }
  const people = new Set(ids.map((id) => owners.get(id)?.id ?? id));
  if (people.size < atLeast) {
    refuse("KL_POLICY_THRESHOLD", `${where} demands ${atLeast} different people and names ${people.size}.`);
  }
}

function authority(written: PolicyText["exceptions"], where: string, names: Names): Authority | undefined {
  if (written === undefined) return undefined;
  const atLeast = written.atLeast ?? 1;
  known(written.by, where, names, atLeast);
  return { by: written.by, atLeast, ...(written.maxDays === undefined ? {} : { maxDays: written.maxDays }) };
}

function readCriteria(entries: NonNullable<PolicyText["criteria"]>): Map<string, Criterion> {
  const criteria = new Map<string, Criterion>(
    Object.entries(entries).map(([id, { description, implies }]) => [
      id,
      { implies: implies ?? [], ...(description === undefined ? {} : { description }) },
    ]),
  );
  for (const id of criteria.keys()) {
    const above = new Set<string>();
    const walk = (at: string): void => {
      const criterion = criteria.get(at);
      if (criterion === undefined) throw refuse("KL_POLICY_CRITERIA", `A criterion implies the unknown "${at}".`);
      for (const implied of criterion.implies) {
        if (implied === id) refuse("KL_POLICY_CRITERIA", `The criterion "${id}" implies itself.`);
        if (above.has(implied)) continue;
        above.add(implied);
        walk(implied);
      }
    };
    walk(id);
  }
  return criteria;
}

function readRule(written: PolicyText["rules"][number], names: Names, criteria: ReadonlyMap<string, Criterion>): Rule {
  const { mode, ptx, untestedVariants, require, sources, ...rest } = written;
  const where = `The rule for "${written.match}"`;
  known(written.publishers, where, names);
  for (const builder of written.builders) known(builder.keys, where, names);
  return {
    ...compact(rest),
    mode: mode ?? "enforce",
    ptx: ptx ?? false,
    untestedVariants: untestedVariants ?? false,
    sources: sources.map((source) => compact(source)),
    ...(require === undefined ? {} : { require: readDemand(require, where, names, criteria, 0) }),
  } as Rule;
}

/** Without the fields that are undefined, which `exactOptionalPropertyTypes` tells apart from absent ones. */
function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

function readDemand(
  written: DemandText,
  where: string,
  names: Names,
  criteria: ReadonlyMap<string, Criterion>,
  depth: number,
): Demand {
  const fields = Object.entries(compact(written));
  if (fields.length !== 1) {
    refuse("KL_POLICY_FIELD", `${where} has a requirement with ${fields.length} fields instead of one.`);
  }
  if (depth > 8) refuse("KL_POLICY_FIELD", `${where} nests its requirements too deeply.`);
  const inner = (of: readonly DemandText[]) => of.map((d) => readDemand(d, where, names, criteria, depth + 1));
  const { allOf, anyOf, atLeast } = written;
  if (allOf) return { kind: "allOf", of: inner(allOf) };
  if (anyOf) return { kind: "anyOf", of: inner(anyOf) };
  if (atLeast) {
    const of = inner(atLeast.of);
    if (of.length < atLeast.count) {
      refuse("KL_POLICY_THRESHOLD", `${where} demands ${atLeast.count} of ${of.length} requirements.`);
    }
    // Each part must be one person's word; what already takes several people is not.
    if (of.some(takesSeveral)) {
      refuse("KL_POLICY_THRESHOLD", `${where} has a threshold inside of a threshold; write them under allOf.`);
    }
    return { kind: "atLeast", count: atLeast.count, of };
  }
  const [kind, leaf] = fields[0] as ["audit" | "test" | "sbom" | "vsa" | "rebuild", NonNullable<DemandText["test"]>];
  known(leaf.by, where, names, leaf.atLeast ?? 1);
  if (kind === "audit") {
    for (const id of written.audit?.criteria ?? []) {
      if (!criteria.has(id)) refuse("KL_POLICY_CRITERIA", `${where} demands the unknown criterion "${id}".`);
    }
  }
  const defaults = kind === "vsa" ? { levels: [] } : {};
  return { ...defaults, ...compact(leaf), kind, atLeast: leaf.atLeast ?? 1 } as Demand;
}

function takesSeveral(demand: Demand): boolean {
  switch (demand.kind) {
    case "atLeast":
      return true;
    case "allOf":
    case "anyOf":
      return demand.of.some(takesSeveral);
    default:
      return demand.atLeast > 1;
  }
}

function readFeed(kind: Feed["kind"], written: NonNullable<PolicyText["advisories"]>[number], names: Names): Feed {
  const { id, file, url, by, maxAgeDays, action } = written;
  const is = (problem: string): never => refuse("KL_POLICY_FEED", `The feed "${id}" ${problem}.`);
  if ((file === undefined) === (url === undefined)) is("needs exactly one of file and url");
  if (by !== undefined) known(by, `The feed "${id}"`, names);
  if ((by === undefined) !== (maxAgeDays === undefined)) is("needs both of by and maxAgeDays, or none");
  // Without a signature anybody between here and there could leave out what concerns us.
  if (by === undefined && (kind === "revocations" || file === undefined)) is("must be signed");
  if (file !== undefined && !/^(?!\/)(?!.*(^|\/)\.\.?(\/|$))[!-~]+$/.test(file)) is("has a file outside of its folder");
  if (kind === "revocations" && action === "warn") is("must refuse");
  return {
    id,
    kind,
    location: file === undefined ? { url: url ?? "" } : { file },
    ...(by === undefined ? {} : { by }),
    ...(maxAgeDays === undefined ? {} : { maxAgeDays }),
    action: action ?? "refuse",
  };
}

function uniqueFeeds(): (feed: Feed) => Feed {
  const seen = new Set<string>();
  return (feed) => {
    if (seen.has(feed.id)) refuse("KL_POLICY_FEED", `Two feeds have the name "${feed.id}".`);
    seen.add(feed.id);
    return feed;
  };
}

/** Whether a rule's pattern speaks about a package. Anchored on both ends; `*` never crosses the slash. */
export function matches(match: string, name: string): boolean {
  const expression = match
    .split("*")
    .map((part) => RegExp.escape(part))
    .join("[a-z0-9._-]*");
  return new RegExp(`^${expression}$`, "u").test(name);
}

/** Whether a list of keys and principals names the one that signed. */
export function includesSigner(policy: Policy, ids: readonly string[], keyId: string): boolean {
  const owner = policy.owners.get(keyId)?.id;
  return ids.includes(keyId) || (owner !== undefined && ids.includes(owner));
}

/** A policy with what it names but does not hold. */
export function withDocuments(policy: Policy, documents: Documents): Policy {
  return { ...policy, documents };
}

/**
 * A policy under another that must allow as well: for each kernel both are asked, and what either forbids is forbidden.
 * Nothing that the lower one says can widen the upper one.
 */
export function narrow(policy: Policy, above: Policy): Policy {
  return {
    ...policy,
    numerics: { allowDequantization: policy.numerics.allowDequantization && above.numerics.allowDequantization },
    confinement: above.confinement === "required" ? "required" : policy.confinement,
    above: policy.above === undefined ? above : narrow(policy.above, above),
  };
}

/** The policy and those above it. */
export function allPolicies(policy: Policy): Policy[] {
  return [policy, ...(policy.above === undefined ? [] : allPolicies(policy.above))];
}

/** Which libraries every rule about a package lets its payloads need; undefined where no rule says anything. */
export function allowedLibraries(policy: Policy, name: string): readonly string[] | undefined {
  let allowed: readonly string[] | undefined;
  for (const rule of allPolicies(policy).flatMap(({ rules }) => rules)) {
    if (rule.libraries === undefined || rule.mode === "warn" || !matches(rule.match, name)) continue;
    const { libraries } = rule;
    allowed = allowed === undefined ? libraries : allowed.filter((library) => libraries.includes(library));
  }
  return allowed;
}

/** What every rule about a package permits of its variants; nothing where no rule speaks. */
export function permits(policy: Policy, name: string): { untested: boolean; ptx: boolean } {
  const rules = allPolicies(policy)
    .flatMap((one) => one.rules)
    .filter((rule) => rule.mode === "enforce" && matches(rule.match, name));
  const all = (of: (rule: Rule) => boolean): boolean => rules.length > 0 && rules.every(of);
  return { untested: all((rule) => rule.untestedVariants), ptx: all((rule) => rule.ptx) };
}
