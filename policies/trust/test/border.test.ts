import { KernlockError } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import * as trust from "../index.ts";
import * as sigstore from "../sigstore/index.ts";
import { kernel, now } from "./material.ts";
import { policyWith, published } from "./rules.ts";

const policy = policyWith("");
const question = { policy, kernel, evidence: published, now };

/** What a program without types may hand in where a `Date` is wanted. */
const noDates: [string, unknown][] = [
  ["an invalid Date", new Date(Number.NaN)],
  ["a number", Date.now()],
  ["a string", "2026-11-24T12:00:00Z"],
  ["null", null],
  ["nothing", undefined],
];

async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call();
    return "no refusal";
  } catch (error) {
    return error instanceof KernlockError ? error.code : `untyped: ${error}`;
  }
}

// biome-ignore lint/suspicious/noExplicitAny: callers from JavaScript have no types
const loose = (value: unknown): any => value;

describe("a time that is none is refused where it comes in: ", () => {
  test.each(noDates)("%s", async (_, at) => {
    const bundle = published[0]!.bundle;
    expect(await codeOf(() => trust.judge({ ...question, now: loose(at) }))).toBe("KL_CALL_ARGUMENT");
    expect(await codeOf(() => trust.verifyBundle(bundle, { keys: [], now: loose(at) }))).toBe("KL_CALL_ARGUMENT");
    expect(await codeOf(() => trust.lintPolicy(policy, loose(at)))).toBe("KL_CALL_ARGUMENT");
    expect(await codeOf(() => trust.auditBases({ ...question, now: loose(at) }))).toBe("KL_CALL_ARGUMENT");
    expect(await codeOf(() => trust.checkApproval({ policy, bundles: [], judge: policy, now: loose(at) }))).toBe(
      "KL_CALL_ARGUMENT",
    );
  });
});

test("the error says which call and which part of it, and shows nothing that was handed in", async () => {
  const error = await Promise.resolve()
    .then(() => trust.judge({ ...question, evidence: loose([{ subject: "secret", bundle: "secret" }]) }))
    .catch((caught: unknown) => caught as KernlockError);
  expect((error as KernlockError).message).toBe(
    "judge was called with something else than it takes: evidence.0.bundle: are no bytes.",
  );
});

const junk = [
  undefined,
  null,
  0,
  Number.NaN,
  "",
  "junk",
  {},
  [],
  [null],
  new Date(Number.NaN),
  new Uint8Array(3),
  () => {},
];

/** Every function that is exported, with anything in every place: an error that leaves is a coded one. */
describe.each([
  ["@kernlock/policies/trust", trust],
  ["@kernlock/policies/trust/sigstore", sigstore],
])("%s", (_, exported) => {
  const functions = Object.entries(exported).filter(([, value]) => typeof value === "function");
  test.each(functions)("%s throws nothing untyped", async (name, callable) => {
    // These pass on what other functions gave, and decide nothing.
    if (
      ["checkCall", "contentsOf", "allPolicies", "allowedLibraries", "narrow", "permits", "withDocuments"].includes(
        name,
      )
    )
      return;
    const call = callable as (...given: unknown[]) => unknown;
    for (const first of junk) {
      for (const second of junk) expect(await codeOf(() => call(first, second, first)), name).not.toMatch(/^untyped/);
    }
  });
});
