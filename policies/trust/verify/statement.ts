import { parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { firstIssue } from "../shape.ts";
import type { Statement } from "../types.ts";
import { limits } from "./bundle.ts";
import { refuse } from "./refusal.ts";

const maxSubjects = 256;

const statementSchema = z.strictObject({
  _type: z.enum(["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"]),
  predicateType: z.string().min(1),
  subject: z
    .array(z.looseObject({ name: z.string().optional(), digest: z.record(z.string(), z.string()) }))
    .min(1)
    .max(maxSubjects),
  predicate: z.record(z.string(), z.unknown()),
});

/** An in-toto statement v0.1 or v1 out of signed bytes. KL_BUNDLE_STATEMENT. */
export function readStatement(payload: Uint8Array): Statement {
  let json: unknown;
  try {
    json = parseStrictJson(payload, { maxBytes: limits.bytes, maxDepth: limits.depth, what: "statement" });
  } catch {
    return refuse("KL_BUNDLE_STATEMENT", "What the bundle signs is not strict JSON.");
  }
  const parsed = statementSchema.safeParse(json);
  if (!parsed.success) {
    return refuse("KL_BUNDLE_STATEMENT", `What the bundle signs is no in-toto statement: ${firstIssue(parsed.error)}.`);
  }
  return parsed.data as Statement;
}
