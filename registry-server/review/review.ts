/** Four eyes: a version that its namespace wants reviewed is published by the decision of somebody else. */
import { fail } from "@kernlock/kernels/format";
import { actorOf, may, type Principal, requireAction } from "../access.ts";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import type { Records, ReviewRow } from "../store/records.ts";

export interface Asked {
  readonly principal: Principal;
  readonly repository: string;
  readonly version: string;
  readonly decision: "approve" | "reject";
  /** Needed for a rejection. */
  readonly reason: string | null;
}

/**
 * Approves or rejects. An approval is a publish: evidence and policy are those of this moment. Whoever published may
 * take a version back, and never approve it: KL_REGISTRY_OWN_REVIEW. KL_REGISTRY_VERSION_NOT_STAGED, and all that a
 * publish is refused with.
 */
export async function decide(context: Context, publisher: Publisher, asked: Asked): Promise<ReviewRow> {
  const { records } = context;
  const { principal, repository, version, decision, reason } = asked;
  const row = await records.review(repository, version);
  const own = row?.askedBy === actorOf(principal) && may(principal, "publish", repository);
  if (!(own && decision === "reject")) requireAction(principal, "review", repository);
  if (row?.state !== "staged") return notStaged(repository, version);
  const by = actorOf(principal);
  const made = { by, at: context.now().toISOString(), reason };
  switch (decision) {
    case "approve": {
      if ((await personBehind(records, by)) === (await personBehind(records, row.askedBy))) ownReview(row);
      const index = await records.manifest(repository, row.digest);
      const [namespace = ""] = repository.split("/");
      if (index === undefined) return notStaged(repository, version);
      const tokenId = /^token:(.+)$/.exec(row.askedBy)?.[1] ?? row.askedBy;
      await publisher.publish({ repository, namespace, version, index, tokenId, actor: by, review: made });
      break;
    }
    case "reject": {
      if (reason === null) {
        fail("KL_REGISTRY_BAD_REQUEST", "A rejection says why.", { remedy: "Give a reason." });
      }
      const target = { repository, version };
      const subject = `${repository}@${version}`;
      const details = { digest: row.digest, reason };
      const audit = { at: made.at, actor: by, action: "version.reject", subject, details };
      if (!(await records.rejectVersion(target, made, audit))) return notStaged(repository, version);
    }
  }
  const after = (await records.review(repository, version))!;
  // Somebody else decided at the same moment.
  return after.decidedBy === by && after.decidedAt === made.at ? after : notStaged(repository, version);
}

/** Whether this reader, who may review, could approve. */
export async function mayApprove(records: Records, principal: Principal, row: ReviewRow): Promise<boolean> {
  if (row.state !== "staged" || !may(principal, "review", row.repository)) return false;
  return (await personBehind(records, actorOf(principal))) !== (await personBehind(records, row.askedBy));
}

/** A token stands for whoever made it on a page; those that the operator made at the machine stand for themselves. */
async function personBehind(records: Records, actor: string): Promise<string> {
  const id = /^token:(.+)$/.exec(actor)?.[1];
  const maker = id === undefined ? undefined : await records.auditActor("token.create", id);
  return maker === undefined || maker === "operator" ? actor : maker;
}

function notStaged(repository: string, version: string): never {
  return fail("KL_REGISTRY_VERSION_NOT_STAGED", `${repository} ${version} does not wait for a review.`, {
    remedy: "List what waits with `kernlock registry review list`.",
    details: { repository, version },
  });
}

function ownReview({ repository, version }: ReviewRow): never {
  return fail("KL_REGISTRY_OWN_REVIEW", `${repository} ${version} was published by the one who would approve it.`, {
    remedy: "Have somebody else approve it, with a token or account of their own.",
    details: { repository, version },
  });
}
