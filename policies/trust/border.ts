import { KeyObject } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import { z } from "zod";
import { firstIssue } from "./shape.ts";
import type { Policy, Signer } from "./types.ts";

/**
 * Where programs call in. Types end at JavaScript: what is handed to a public function is looked at once, as it comes
 * in, and is what its type says from there on. Documents (bundles, policies, roots, locks) have parsers and codes of
 * their own; this is about the rest: the time above all, since a Date that is none makes every comparison false.
 * Throws KL_CALL_ARGUMENT.
 */
export function checkCall(call: string, schema: z.ZodType, given: unknown): void {
  const parsed = schema.safeParse(given);
  if (parsed.success) return;
  fail("KL_CALL_ARGUMENT", `${call} was called with something else than it takes: ${firstIssue(parsed.error)}.`, {
    remedy: "Correct the program that calls it; its types say what it takes.",
  });
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

export const given = {
  date: z.date("is no valid Date"),
  bytes: z.instanceof(Uint8Array, { error: "are no bytes" }),
  text: z.string(),
  /** Bytes or a string. */
  document: z.union([z.instanceof(Uint8Array), z.string()], "is neither bytes nor text"),
  publicKey: z.custom<KeyObject>((value) => value instanceof KeyObject && value.type === "public", "is no public key"),
  numbers: z.record(z.string(), z.number()),
  /** Made by `parsePolicy`: enough to tell it from what was not. */
  policy: z.custom<Policy>(
    (value) =>
      isObject(value) &&
      [value.keys, value.identities, value.owners, value.criteria].every((part) => part instanceof Map) &&
      [value.rules, value.feeds].every(Array.isArray) &&
      typeof value.digest === "string",
    "is no policy that was parsed",
  ),
  signer: z.custom<Signer>(
    (value) => isObject(value) && isObject(value.publicKey) && typeof value.sign === "function",
    "is no signer",
  ),
  /** An object with these functions. */
  methods: (what: string, names: readonly string[]) =>
    z.custom((value) => isObject(value) && names.every((name) => typeof value[name] === "function"), `is no ${what}`),
  callback: z.custom((value) => typeof value === "function", "is no function").optional(),
};

const evidence = z.array(z.object({ subject: given.text, bundle: given.bytes }));
const source = z.object({ repository: given.text, revision: given.text });
const kernel = z.object({
  name: given.text,
  version: given.text,
  index: given.text,
  source,
  license: given.text.optional(),
  variants: z.array(
    z.object({
      key: given.text,
      manifest: given.text,
      contents: z.object({ payloads: z.array(given.text), ptx: z.boolean(), license: given.text }).optional(),
    }),
  ),
});
const iterable = z.custom<Iterable<unknown>>((value) => isObject(value) && Symbol.iterator in value, "is no list");

/** What the functions of this package take. */
export const calls = {
  judge: z.object({ policy: given.policy, kernel, evidence, now: given.date, seen: given.numbers.optional() }),
  auditBases: z.object({ policy: given.policy, evidence, now: given.date }),
  verifyBundle: z.object({
    bytes: given.bytes,
    keys: iterable,
    identities: iterable.optional(),
    anchor: z.object({ root: z.object({ logs: z.array(z.unknown()) }) }).optional(),
    now: given.date,
  }),
  createBundle: z.object({ statement: given.bytes, signer: given.signer }),
  checkApproval: z.object({
    policy: given.policy,
    bundles: z.array(given.bytes),
    judge: given.policy,
    now: given.date,
  }),
  lintPolicy: z.object({ policy: given.policy, now: given.date }),
  trustedKey: z.object({
    id: given.text,
    pem: given.text,
    window: z.object({ validFrom: given.date.optional(), validUntil: given.date.optional() }),
  }),
  openFeed: z.object({
    feed: z.object({ id: given.text, kind: z.enum(["advisories", "revocations"]) }),
    policy: given.policy,
    seen: given.numbers,
    now: given.date,
  }),
  verdict: z.object({ ok: z.boolean(), tree: z.object({ ok: z.boolean(), children: z.array(z.unknown()) }) }),
  document: z.object({ document: given.document }),
  bytes: z.object({ bytes: given.bytes }),
  text: z.object({ text: given.text }),
};
