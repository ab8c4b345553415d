/**
 * What becomes of a version in each of its states, on every path to it: tags, digests, blobs, referrers, the JSON API and
 * the pages ask here.
 */
import { isVersion } from "@kernlock/kernels/format";
import { type Principal, seesUnpublished } from "../access.ts";
import type { ContentDigest } from "../store/digests.ts";
import type { ListedVersion, Records, ReviewRow, VersionState, VersionStatus } from "../store/records.ts";

export interface Standing {
  /** Who gets its contents and its document: all who may read the namespace, its members, or nobody. */
  readonly opens: "readers" | "members" | "nobody";
  /** What the others are told: that it is withheld, or the same as if there were no such version. */
  readonly others: "withheld" | "absent";
  /** Whose lists of versions (API and pages) name it, with its state. */
  readonly listed: "readers" | "members";
  /** Whether it is a tag to OCI clients. */
  readonly tag: boolean;
  /** Whether `latest`, search and a new lock may choose it. */
  readonly offered: boolean;
}

/** Members are those who may publish to, or decide for, its package. */
export const standings: Readonly<Record<VersionState, Standing>> = {
  ok: { opens: "readers", others: "absent", listed: "readers", tag: true, offered: true },
  yanked: { opens: "readers", others: "absent", listed: "readers", tag: true, offered: false },
  quarantined: { opens: "nobody", others: "withheld", listed: "readers", tag: false, offered: false },
  staged: { opens: "members", others: "absent", listed: "members", tag: false, offered: false },
  rejected: { opens: "nobody", others: "absent", listed: "members", tag: false, offered: false },
};

export interface FoundVersion extends VersionStatus {
  readonly repository: string;
  readonly version: string;
  readonly digest: ContentDigest;
  readonly publishedAt: string;
  readonly document: string;
  readonly card: string;
}

/**
 * A version as this reader, who may read its namespace, finds it. `withheld`: it is there and nobody gets it. Undefined:
 * there is none, or it is not for this reader.
 */
export async function findVersion(
  records: Records,
  principal: Principal,
  repository: string,
  version: string,
): Promise<{ readonly found: FoundVersion; readonly withheld: boolean } | undefined> {
  if (!isVersion(version)) return undefined;
  const found = (await records.version(repository, version)) ?? inReview(await records.review(repository, version));
  if (found === undefined) return undefined;
  const { opens, others } = standings[found.state];
  const open = opens === "readers" || (opens === "members" && seesUnpublished(principal, repository));
  if (open) return { found, withheld: false };
  return others === "withheld" ? { found, withheld: true } : undefined;
}

/** All versions that this reader is shown in lists, in no order. */
export async function listVersions(
  records: Records,
  principal: Principal,
  repository: string,
): Promise<ListedVersion[]> {
  const published = await records.versions(repository);
  if (!seesUnpublished(principal, repository)) return published;
  return [...published, ...(await records.reviewsOf(repository)).map((row) => inReview(row)!)];
}

/** One that was approved is a version, and found there. */
function inReview(row: ReviewRow | undefined): FoundVersion | undefined {
  if (row === undefined || row.state === "approved") return undefined;
  const { repository, version, digest, document, card, state } = row;
  const about = { state, stateReason: row.reason, stateAt: row.decidedAt ?? row.askedAt };
  return { repository, version, digest, document, card, publishedAt: row.askedAt, ...about };
}
