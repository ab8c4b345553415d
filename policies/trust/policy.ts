import { type Digest, digestOf, type ErrorCode, fail } from "@kernlock/kernels/format";
import { type Document, parseAllDocuments, visit } from "yaml";
import { z } from "zod";
import { trustedKey } from "./keys.ts";
import { firstIssue } from "./shape.ts";
import type { Policy, TrustedKey } from "./types.ts";

const maxBytes = 256 << 10;
const identifier = z.string().regex(/^[a-z0-9]+([._-][a-z0-9]+)*$/, "not an identifier");
const time = z.iso.datetime({ offset: true, error: "not an RFC 3339 time with a zone" });
const keyIds = z.array(identifier).min(1);
const text = z.string().min(1).max(1024);

/** `namespace/name`, where `*` may stand for any text inside one of the two segments. */
const pattern = z.string().regex(/^[a-z0-9._-]*\*?[a-z0-9._-]*\/[a-z0-9._-]*\*?[a-z0-9._-]*$/, "not a name or pattern");

const schema = z.strictObject({
  version: z.literal(1),
  keys: z.record(
    identifier,
    z.strictObject({ pem: z.string().max(2048), validFrom: time.optional(), validUntil: time.optional() }),
  ),
  rules: z.array(
    z.strictObject({
      match: pattern,
      publishers: keyIds,
      builders: z.array(z.strictObject({ id: text, keys: keyIds })).min(1),
      sources: z.array(z.strictObject({ repository: text, revision: text.optional() })).min(1),
    }),
  ),
  numerics: z.strictObject({ allowDequantization: z.boolean() }),
  registry: z.strictObject({ origin: z.string().refine(isOrigin, "not an origin (scheme, host, port)") }).optional(),
});

function isOrigin(value: string): boolean {
  return /^https?:\/\//.test(value) && URL.canParse(value) && new URL(value).origin === value;
}

function refuse(code: ErrorCode, message: string): never {
  return fail(code, message, { remedy: "Correct the policy file; docs/policy.md describes it." });
}

/** sha256 of the policy file's bytes. */
export function policyDigest(policy: Uint8Array | string): Digest {
  return digestOf(typeof policy === "string" ? Buffer.from(policy) : policy);
}

/**
 * Reads `kernels.policy.yaml`. A policy means what a person reads in it: no aliases, anchors, tags, merge keys,
 * duplicate or unknown fields, and one document.
 * Throws KL_POLICY_SYNTAX (YAML), KL_POLICY_FIELD (form), KL_POLICY_KEY (a key), KL_POLICY_REFERENCE (an unknown key id).
 */
export function parsePolicy(policy: Uint8Array | string): Policy {
  const { version, keys: keyEntries, rules, numerics, registry } = readSchema(readYaml(policy));
  const keys = new Map<string, TrustedKey>();
  const owners = new Map<Digest, string>();
  for (const [id, { pem, validFrom, validUntil }] of Object.entries(keyEntries)) {
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
  for (const rule of rules) {
    for (const id of [...rule.publishers, ...rule.builders.flatMap((builder) => builder.keys)]) {
      if (!keys.has(id)) refuse("KL_POLICY_REFERENCE", `The rule for "${rule.match}" names the unknown key "${id}".`);
    }
  }
  return {
    version,
    digest: policyDigest(policy),
    keys,
    rules: rules.map((rule) => ({
      ...rule,
      sources: rule.sources.map(({ repository, revision }) => ({
        repository,
        ...(revision === undefined ? {} : { revision }),
      })),
    })),
    numerics,
    ...(registry === undefined ? {} : { registry }),
  };
}

function readYaml(policy: Uint8Array | string): unknown {
  const bytes = typeof policy === "string" ? Buffer.from(policy) : policy;
  if (bytes.byteLength > maxBytes) refuse("KL_POLICY_SYNTAX", `The policy has more than ${maxBytes} bytes.`);
  let problem: string | undefined;
  let value: unknown;
  try {
    const source = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const documents = parseAllDocuments(source, { version: "1.2", schema: "core", uniqueKeys: true, stringKeys: true });
    const [document, ...others] = Array.from(documents as Iterable<Document>);
    if (document === undefined || others.length > 0) problem = "it must hold exactly one document";
    else {
      problem = document.errors[0]?.message ?? document.warnings[0]?.message ?? forbidden(source, document);
      value = problem === undefined ? document.toJS({ maxAliasCount: 0 }) : undefined;
    }
  } catch {
    problem = "it cannot be parsed";
  }
  if (problem !== undefined)
    refuse("KL_POLICY_SYNTAX", `The policy is not acceptable YAML: ${problem.split("\n")[0]}.`);
  return value;
}

/** What YAML allows and a policy does not. */
function forbidden(source: string, document: Document): string | undefined {
  if (/^%/m.test(source)) return "directives are not allowed";
  let found: string | undefined;
  visit(document, {
    Alias: () => {
      found = "aliases are not allowed";
      return visit.BREAK;
    },
    Value: (_, node) => {
      if (node.anchor !== undefined) found = "anchors are not allowed";
      else if (node.tag !== undefined) found = "tags are not allowed";
      return found === undefined ? undefined : visit.BREAK;
    },
    Pair: (_, { key }) => {
      const name = (key as { value?: unknown } | null)?.value;
      // The one name that objects treat as more than a name.
      if (name === "__proto__" || name === "<<") found = `the key ${String(name)} is not allowed`;
      return found === undefined ? undefined : visit.BREAK;
    },
  });
  return found;
}

function readSchema(value: unknown): z.infer<typeof schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  return refuse("KL_POLICY_FIELD", `The policy is not of the expected form: ${firstIssue(parsed.error)}.`);
}

/** Whether a rule's pattern speaks about a package. Anchored on both ends; `*` never crosses the slash. */
export function matches(match: string, name: string): boolean {
  const expression = match
    .split("*")
    .map((part) => part.replaceAll(/[.\\^$|?+()[\]{}-]/g, "\\$&"))
    .join("[a-z0-9._-]*");
  return new RegExp(`^${expression}$`, "u").test(name);
}
