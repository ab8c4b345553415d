import { fail } from "@kernlock/kernels/format";
import type { z } from "zod";
import { advisoriesSchema, advisoriesType, revocationsSchema } from "../advisories/feeds.ts";
import { revocationsType } from "../advisories/revocations.ts";
import { auditSchema } from "../audits/audit.ts";
import { approvalSchema, approvalType } from "../policy/approval.ts";
import { firstIssue } from "../shape.ts";
import { auditType, bomSchema, sbomType, testType, vsaType } from "./evidence.ts";
import { testSchema, vsaSchema } from "./statements.ts";
import { breakGlassSchema, breakGlassType, exceptionSchema, exceptionType } from "./waivers.ts";

const schemas: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  [auditType, auditSchema],
  [testType, testSchema],
  [sbomType, bomSchema],
  [vsaType, vsaSchema],
  [exceptionType, exceptionSchema],
  [breakGlassType, breakGlassSchema],
  [approvalType, approvalSchema],
  [advisoriesType, advisoriesSchema],
  [revocationsType, revocationsSchema],
]);

/**
 * Whether a predicate is one that a verdict would read: asked before something is signed, since afterwards it would
 * count for nothing, or, as a feed, refuse everything. Kinds that are judged nowhere pass. Throws KL_ATTEST_FORM.
 */
export function checkPredicate(type: string, predicate: unknown): void {
  const parsed = schemas.get(type)?.safeParse(predicate);
  if (parsed === undefined || parsed.success) return;
  fail("KL_ATTEST_FORM", `This is not signed, since nobody could read it: ${firstIssue(parsed.error)}.`, {
    remedy: "Correct what is to be signed; docs/policy.md and docs/attestations.md describe each kind.",
  });
}
