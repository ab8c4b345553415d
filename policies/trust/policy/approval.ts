import { fail } from "@kernlock/kernels/format";
import { z } from "zod";
import { calls, checkCall } from "../border.ts";
import { checkTimes, isHeard, open } from "../judge/evidence.ts";
import { includesSigner } from "../policy.ts";
import type { Policy } from "../types.ts";

export const approvalType = "https://kernlock.dev/policy/approval/v1";
/** The name under which a statement names a policy file; what counts is the digest. */
export const approvalSubject = "kernels.policy.yaml";

const time = z.iso.datetime({ offset: true });
export const approvalSchema = z.strictObject({ issued: time, expires: time.optional() });

/**
 * Whether enough people signed a policy. Whom it takes, `judge` says, by its field `approval`: the operator's policy, or
 * the policy itself. The second keeps people without keys from editing it, but whoever replaces the file replaces that
 * demand too; only the first binds. Each approver signs a bundle of their own about the very bytes of the file.
 * Throws KL_POLICY_APPROVAL.
 */
export function checkApproval(request: {
  readonly policy: Policy;
  readonly bundles: readonly Uint8Array[];
  readonly judge: Policy;
  readonly now: Date;
}): void {
  checkCall("checkApproval", calls.checkApproval, request);
  const { policy, bundles, judge, now } = request;
  const { approval } = judge;
  if (approval === undefined) return;
  const people = new Set<string>();
  const reasons: string[] = [];
  for (const bundle of bundles) {
    const opened = open({ subject: policy.digest, bundle }, judge, now);
    if (!isHeard(opened)) {
      reasons.push(opened.problem.reason);
      continue;
    }
    const { statement, signer } = opened.signed;
    const parsed = approvalSchema.safeParse(statement.predicate);
    const [subject, ...others] = statement.subject;
    const about =
      statement.predicateType === approvalType &&
      parsed.success &&
      others.length === 0 &&
      subject?.name === approvalSubject &&
      `sha256:${subject.digest.sha256}` === policy.digest;
    const id = signer.kind === "key" ? signer.keyId : signer.identityId;
    if (!about) reasons.push("One bundle is about something else.");
    else if (!includesSigner(judge, approval.by, id)) reasons.push(`"${opened.principal}" may not approve policies.`);
    else {
      const about = { package: "", version: "", variant: null, scope: "index" as const, issued: parsed.data.issued };
      const { expires } = parsed.data;
      const stale = checkTimes({ ...about, ...(expires === undefined ? {} : { expires }) }, now, approval.maxDays);
      if (stale) reasons.push(stale.reason);
      else people.add(opened.principal);
    }
  }
  if (people.size >= approval.atLeast) return;
  fail(
    "KL_POLICY_APPROVAL",
    `The policy needs the signatures of ${approval.atLeast === 1 ? "one person" : `${approval.atLeast} people`} and has ${people.size === 0 ? "none" : `those of ${people.size}`}.`,
    {
      remedy: "Have it signed with `kernlock policy sign`, which writes the bundles beside it.",
      details: { policy: policy.digest, reasons },
    },
  );
}
