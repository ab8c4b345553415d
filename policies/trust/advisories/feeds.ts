import { canonicalJson, digestOf, fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { calls, checkCall, given } from "../border.ts";
import { clockSkewMs, dayMs, open, signerId, signerName } from "../judge/evidence.ts";
import { leaf, type Problem, problem } from "../judge/tree.ts";
import { includesSigner } from "../policy.ts";
import type { Feed, Policy, Requirement, Statement, TrustedKey } from "../types.ts";
import { verifyBundle } from "../verify.ts";
import { type Osv, osvSchema } from "./osv.ts";
import { type Revocation, revocation, revocationsType } from "./revocations.ts";

export const advisoriesType = "https://kernlock.dev/feed/advisories/v1";

const time = z.iso.datetime({ offset: true });
const header = { feed: z.string(), sequence: z.number().int().min(1), issued: time, expires: time.optional() };
export const advisoriesSchema = z.strictObject({ ...header, advisories: z.array(osvSchema).max(10_000) });
export const revocationsSchema = z.strictObject({ ...header, revocations: z.array(revocation).max(10_000) });
const plainSchema = z.union([osvSchema.transform((one) => [one]), z.array(osvSchema).max(10_000)]);

/** The name of the subject of a feed's statement; its digest is that of the predicate as canonical JSON. */
export const feedSubject = (feed: string): string => `feed:${feed}`;

export interface OpenFeed {
  readonly feed: Feed;
  readonly node: Requirement;
  readonly advisories: readonly Osv[];
  readonly revocations: readonly Revocation[];
  readonly sequence?: number;
}

/**
 * Reads one feed. What is not there, not signed by whom the policy names, older than what was seen or than is taken
 * refuses every kernel (KL_FEED_MISSING, _INVALID, _SIGNER, _ROLLBACK, _STALE, _FUTURE): silence is what an attacker
 * who withholds an advisory would send.
 */
export function openFeed(feed: Feed, policy: Policy, seen: Readonly<Record<string, number>>, now: Date): OpenFeed {
  checkCall("openFeed", calls.openFeed, { feed, policy, seen, now });
  const bytes = policy.documents?.feeds.get(feed.id);
  const answer = (refusal: Problem | null, more: Partial<OpenFeed> = {}): OpenFeed => ({
    feed,
    node: leaf(`the ${feed.kind} "${feed.id}" are at hand, signed and fresh`, refusal),
    advisories: [],
    revocations: [],
    ...more,
  });
  if (bytes === undefined) return answer(problem("KL_FEED_MISSING", `The feed "${feed.id}" is not at hand.`));
  return feed.by === undefined ? openPlain(bytes, answer) : openSigned(feed, bytes, policy, seen, now, answer);
}

type Answer = (refusal: Problem | null, more?: Partial<OpenFeed>) => OpenFeed;

function openPlain(bytes: Uint8Array, answer: Answer): OpenFeed {
  try {
    const parsed = plainSchema.safeParse(parseStrictJson(bytes, { maxBytes: 16 << 20, maxDepth: 32, what: "OSV" }));
    if (parsed.success) return answer(null, { advisories: parsed.data });
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
  }
  return answer(problem("KL_FEED_INVALID", "The file holds no OSV records."));
}

function openSigned(
  feed: Feed,
  bytes: Uint8Array,
  policy: Policy,
  seen: Readonly<Record<string, number>>,
  now: Date,
  answer: Answer,
): OpenFeed {
  const opened = open({ subject: digestOf(""), bundle: bytes }, policy, now);
  if (opened.signed === undefined) return answer(problem("KL_FEED_INVALID", opened.problem.reason));
  const { statement, signer } = opened.signed;
  if (!includesSigner(policy, feed.by ?? [], signerId(signer))) {
    return answer(problem("KL_FEED_SIGNER", `The feed "${feed.id}" is signed by ${signerName(signer)}.`));
  }
  const content = contentOf(statement, feed);
  if (content === undefined) {
    return answer(problem("KL_FEED_INVALID", `What was signed is not the feed "${feed.id}" of ${feed.kind}.`));
  }
  const { sequence, issued, expires } = content;
  const newest = Object.hasOwn(seen, feed.id) ? (seen[feed.id] ?? 0) : 0;
  const age = now.getTime() - Date.parse(issued);
  const refusal = (): Problem | null => {
    if (sequence < newest) {
      return problem("KL_FEED_ROLLBACK", `The feed "${feed.id}" is number ${sequence}, and ${newest} has been seen.`);
    }
    if (!(age >= -clockSkewMs)) return problem("KL_FEED_FUTURE", `The feed "${feed.id}" was issued at ${issued}.`);
    const old = !(age <= (feed.maxAgeDays ?? 1) * dayMs);
    if (old || (expires !== undefined && !(now.getTime() < Date.parse(expires)))) {
      return problem("KL_FEED_STALE", `The feed "${feed.id}" is of ${issued}, and too old.`);
    }
    return null;
  };
  // What a stale feed says still holds; it is what it does not say that is missing.
  return answer(refusal(), content);
}

interface FeedContent {
  readonly sequence: number;
  readonly issued: string;
  readonly expires: string | undefined;
  readonly advisories: readonly Osv[];
  readonly revocations: readonly Revocation[];
}

/** What a statement says if it is this feed and no other; its only subject is the feed, by the digest of what it says. */
function contentOf(statement: Statement, feed: Pick<Feed, "id" | "kind">): FeedContent | undefined {
  const wanted = feed.kind === "advisories" ? advisoriesType : revocationsType;
  const parsed = (feed.kind === "advisories" ? advisoriesSchema : revocationsSchema).safeParse(statement.predicate);
  const [subject, ...others] = statement.subject;
  const named =
    others.length === 0 &&
    subject?.name === feedSubject(feed.id) &&
    subject.digest.sha256 === digestOf(canonicalJson(statement.predicate)).slice("sha256:".length);
  if (statement.predicateType !== wanted || !parsed.success || !named || parsed.data.feed !== feed.id) return undefined;
  const { sequence, issued, expires } = parsed.data;
  return {
    ...{ sequence, issued, expires },
    advisories: "advisories" in parsed.data ? parsed.data.advisories : [],
    revocations: "revocations" in parsed.data ? parsed.data.revocations : [],
  };
}

/**
 * A signed feed as whoever is to serve it reads it. How old it may be is for its readers' policies to say; what is over
 * or comes from the future is refused. Throws KL_BUNDLE_*, KL_FEED_INVALID, KL_FEED_STALE, KL_FEED_FUTURE.
 */
export function readFeed(
  bytes: Uint8Array,
  feed: Pick<Feed, "id" | "kind"> & { readonly keys: Iterable<TrustedKey>; readonly now: Date },
): FeedContent {
  checkCall("readFeed", z.object({ id: given.text, kind: z.enum(["advisories", "revocations"]) }), feed);
  const { now } = feed;
  const content = contentOf(verifyBundle(bytes, { keys: feed.keys, now }).statement, feed);
  if (content === undefined) {
    return fail("KL_FEED_INVALID", `What was signed is not the feed "${feed.id}" of ${feed.kind}.`, {
      remedy: "Sign it with `kernlock policy feed`, under the name and kind that it has here.",
    });
  }
  if (now.getTime() - Date.parse(content.issued) < -clockSkewMs) {
    fail("KL_FEED_FUTURE", `The feed "${feed.id}" was issued at ${content.issued}.`, { remedy: "Check the clock." });
  }
  if (content.expires !== undefined && !(now.getTime() < Date.parse(content.expires))) {
    fail("KL_FEED_STALE", `The feed "${feed.id}" is over since ${content.expires}.`, { remedy: "Sign it again." });
  }
  return content;
}
