/**
 * The feeds that policies name, as this registry holds them. A copy takes the place of the one before only if the
 * policy accepts it (signer, number, age): a bad one changes nothing, and what is not renewed grows too old by itself.
 * A publish never waits for the network.
 */
import { join } from "node:path";
import { digestOf, fail, KernlockError } from "@kernlock/kernels/format";
import { type Feed, openFeed, type Policy, parsePolicy, withDocuments } from "@kernlock/policies/trust";
import { request } from "undici";
import type { FeedRow, Records } from "../store/records.ts";
import { type OperatorPolicy, operatorNamespace, readBounded } from "./policies.ts";

export const maxFeedBytes = 8 << 20;

interface Parts {
  readonly records: Records;
  readonly now: () => Date;
}

export interface TakenFeed {
  readonly namespace: string;
  readonly id: string;
  readonly outcome: "taken" | "same";
  readonly sequence: number | null;
}

/**
 * Takes a copy of a feed. `url` says where from later copies come (null: from the operator; undefined: as before).
 * Throws KL_REGISTRY_FEED_UNNAMED, KL_FEED_INVALID, _SIGNER, _ROLLBACK, _STALE, _FUTURE; then nothing has changed.
 */
export async function takeFeed(
  { records, now }: Parts,
  copy: {
    readonly namespace: string;
    readonly id: string;
    readonly policy: Policy;
    readonly bytes: Uint8Array;
    readonly url?: string | null;
    readonly actor: string;
  },
): Promise<TakenFeed> {
  const { namespace, id, policy, bytes, url } = copy;
  const feed = feedOf(policy, namespace, id);
  const before = (await records.feeds(namespace)).find((row) => row.id === id);
  const handed = withDocuments(policy, { feeds: new Map([[id, bytes]]), exceptions: [], seen: {} });
  const opened = openFeed(feed, handed, { [id]: before?.sequence ?? 0 }, now());
  if (!opened.node.ok) refuse(opened.node.code ?? "KL_FEED_INVALID", opened.node.reason ?? "The feed is refused.");
  const sequence = opened.sequence ?? null;
  const digest = digestOf(bytes);
  if (before?.sequence === sequence && sequence !== null && before.digest !== digest) {
    refuse("KL_FEED_ROLLBACK", `The feed "${id}" has two contents under the number ${sequence}.`);
  }
  const at = now().toISOString();
  const outcome = await records.putFeed(
    { namespace, id, document: bytes, digest, sequence, at, ...(url === undefined ? {} : { url }) },
    {
      ...{ at, actor: copy.actor, action: "feed.take", subject: `${namespace} ${id}` },
      details: { digest, sequence, ...(url === undefined ? {} : { url }) },
    },
  );
  if (outcome === "older") refuse("KL_FEED_ROLLBACK", `A newer number of the feed "${id}" has been seen.`);
  return { namespace, id, outcome, sequence };
}

export interface Refreshed {
  readonly namespace: string;
  readonly id: string;
  readonly outcome: TakenFeed["outcome"] | "failed";
  readonly sequence: number | null;
  readonly problem: string | null;
}

/** Looks at every feed that comes from an address or lies beside the operator's policy. Never throws for one of them. */
export async function refreshFeeds(
  parts: Parts & { readonly operator?: OperatorPolicy | undefined },
  only?: { readonly namespace: string },
): Promise<Refreshed[]> {
  const outcomes: Refreshed[] = [];
  for (const { namespace, id, url } of await parts.records.feeds(only?.namespace)) {
    const owner = url === null ? undefined : await parts.records.namespace(namespace);
    if (owner === undefined || url === null) continue;
    outcomes.push(await renew(parts, namespace, id, parsePolicy(owner.policy), () => download(url)));
  }
  if (only !== undefined) return outcomes;
  for (const { id, location } of parts.operator?.policy.feeds ?? []) {
    if (!("url" in location)) continue;
    outcomes.push(await renew(parts, operatorNamespace, id, parts.operator!.policy, () => download(location.url)));
  }
  return [...outcomes, ...(await readOperatorFiles(parts))];
}

/** Files are read as they are at the moment: whoever replaces one need not wait. What is held already costs no write. */
export async function readOperatorFiles(
  parts: Parts & { readonly operator?: OperatorPolicy | undefined },
): Promise<Refreshed[]> {
  const { policy, folder } = parts.operator ?? {};
  const files = (policy?.feeds ?? []).flatMap(({ id, location }) => ("file" in location ? [{ id, ...location }] : []));
  if (policy === undefined || folder === undefined || files.length === 0) return [];
  const held = await parts.records.feeds(operatorNamespace);
  const outcomes: Refreshed[] = [];
  for (const { id, file } of files) {
    const bytes = await readBounded(join(folder, file), maxFeedBytes).catch((error: unknown) => error as Error);
    const row = held.find((one) => one.id === id);
    if (!(bytes instanceof Error) && row?.problem === null && row.digest === digestOf(bytes)) continue;
    const bring = () => (bytes instanceof Error ? Promise.reject(bytes) : Promise.resolve(bytes));
    outcomes.push(await renew(parts, operatorNamespace, id, policy, bring));
  }
  return outcomes;
}

async function renew(
  parts: Parts,
  namespace: string,
  id: string,
  policy: Policy,
  bring: () => Promise<Uint8Array>,
): Promise<Refreshed> {
  try {
    const bytes = await bring();
    return { ...(await takeFeed(parts, { namespace, id, policy, bytes, actor: "registry" })), problem: null };
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    const problem = `${error.code}: ${error.message}`;
    await parts.records.noteFeedProblem(namespace, id, problem, parts.now().toISOString());
    return { namespace, id, outcome: "failed", sequence: null, problem };
  }
}

/** The policy's own words about a feed. KL_REGISTRY_FEED_UNNAMED. */
function feedOf(policy: Policy, namespace: string, id: string): Feed {
  return (
    policy.feeds.find((feed) => feed.id === id) ??
    fail("KL_REGISTRY_FEED_UNNAMED", `The policy of "${namespace}" names no feed "${id}".`, {
      remedy: "Put it into the policy first; `kernlock registry namespace feed list` shows those that it names.",
      details: { namespace, feed: id },
    })
  );
}

export interface FeedStatus {
  readonly id: string;
  readonly kind: Feed["kind"];
  readonly maxAgeDays: number | null;
  readonly held: FeedRow | null;
  /** Why no publish passes, or null. */
  readonly code: string | null;
  readonly reason: string | null;
}

/** Every feed that a policy names, and whether a publish would pass it now. */
export async function feedStatus(
  { records, now }: Parts,
  namespace: string,
  policy: Policy,
): Promise<readonly FeedStatus[]> {
  const rows = await records.feedDocuments(namespace);
  return policy.feeds.map((feed) => {
    const { document = null, ...held } = rows.find(({ id }) => id === feed.id) ?? {};
    const feeds = new Map(document === null ? [] : [[feed.id, document] as const]);
    const handed = withDocuments(policy, { feeds, exceptions: [], seen: {} });
    const sequence = "sequence" in held ? (held.sequence ?? 0) : 0;
    const { node } = openFeed(feed, handed, { [feed.id]: sequence }, now());
    return {
      ...{ id: feed.id, kind: feed.kind, maxAgeDays: feed.maxAgeDays ?? null },
      held: "id" in held ? (held as FeedRow) : null,
      ...{ code: node.code ?? null, reason: node.reason ?? null },
    };
  });
}

/** An http or https address without credentials in it. KL_REGISTRY_FEED_ADDRESS. */
export function checkFeedAddress(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol) || parsed.username !== "" || parsed.password !== "") {
    fail("KL_REGISTRY_FEED_ADDRESS", "A feed comes from an http or https address without a password in it.", {
      remedy: "Give such an address, or bring the feed as a file.",
    });
  }
  return url;
}

/** Follows no redirects: where the registry connects to is the operator's decision. */
export async function download(url: string): Promise<Uint8Array> {
  const unreachable = (why: string, cause?: unknown): never =>
    fail("KL_FEED_FETCH", `The feed at ${url} cannot be fetched (${why}).`, {
      remedy: "Look whether its server answers; until it does, the last copy holds as long as the policy lets it.",
      ...(cause === undefined ? {} : { cause }),
    });
  try {
    const signal = AbortSignal.timeout(60_000);
    const answer = await request(url, { headersTimeout: 30_000, bodyTimeout: 30_000, signal });
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      return unreachable(`status ${answer.statusCode}`);
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      size += chunk.byteLength;
      if (size > maxFeedBytes) return unreachable("too large");
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    if (error instanceof KernlockError) throw error;
    return unreachable((error as NodeJS.ErrnoException).code ?? (error as Error).name, error);
  }
}

function refuse(code: Parameters<typeof fail>[0], message: string): never {
  return fail(code, message, { remedy: "Ask whoever issues the feed; what was held before still is." });
}
