import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { digestOf, type ErrorCode, fail, KernlockError, parseStrictJson, prettyJson } from "@kernlock/kernels/format";
import { HttpClient, readAll } from "@kernlock/kernels/oci";
import { allPolicies, describeBundle, type Feed, openFeed, type Policy, withDocuments } from "@kernlock/policies/trust";
import { z } from "zod";

/**
 * What this client remembers of feeds: the last copy of each that comes from a URL, and the newest number seen of each.
 * Deleting it forgets; it cannot make an older feed pass than the lock pins.
 */
const stateFolder = (): string =>
  join(process.env.XDG_STATE_HOME ?? join(homedir(), ".local", "state"), "kernlock", "feeds");

const maxFeed = 8 << 20;

export const cachedFeed = (url: string): string => join(stateFolder(), `${digestOf(url).slice("sha256:".length)}.json`);

const seenPath = (): string => join(stateFolder(), "seen.json");
const seenSchema = z.record(z.string(), z.number().int().nonnegative());

function readSeen(): Record<string, number> {
  try {
    const parsed = seenSchema.safeParse(parseStrictJson(readFileSync(seenPath()), { what: "seen.json" }));
    if (parsed.success) return parsed.data;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
  }
  return fail("KL_CLI_FILE", `${seenPath()}, where the newest numbers of feeds stand, is damaged.`, {
    remedy: "Find out why, then delete it.",
  });
}

/** Two projects may give one name to two feeds; where it comes from tells them apart. */
const place = (feed: Feed, policyPath: string): string =>
  "url" in feed.location ? feed.location.url : `${join(dirname(policyPath), feed.location.file)}#${feed.id}`;

/** The newest number seen of each feed of a policy. */
export function seenSequences(policy: Policy, policyPath: string): Record<string, number> {
  const signed = policy.feeds.filter(({ by }) => by !== undefined);
  if (signed.length === 0) return {};
  const seen = readSeen();
  return Object.fromEntries(
    signed.flatMap((feed) => {
      const sequence = seen[place(feed, policyPath)];
      return sequence === undefined ? [] : [[feed.id, sequence] as const];
    }),
  );
}

/** Writes down what a verdict has seen, so that nothing older is taken from now on. */
export function rememberFeeds(policy: Policy, policyPath: string, sequences: Readonly<Record<string, number>>): void {
  const numbered = policy.feeds.filter(({ id }) => Object.hasOwn(sequences, id));
  if (numbered.length === 0) return;
  const seen = readSeen();
  let changed = false;
  for (const feed of numbered) {
    const at = place(feed, policyPath);
    const sequence = sequences[feed.id] ?? 0;
    if (sequence <= (seen[at] ?? 0)) continue;
    seen[at] = sequence;
    changed = true;
  }
  if (!changed) return;
  writeAtomic(seenPath(), prettyJson(seen));
}

export interface FetchedFeed {
  readonly id: string;
  readonly url: string;
  readonly outcome: "taken" | "same" | "failed";
  /** Why nothing new was taken. */
  readonly problem?: KernlockError;
  /** Whether the copy that is at hand now counts under the policy. */
  readonly counts: boolean;
}

/**
 * Asks for the newest copy of every feed that a policy has at a URL. A copy takes the place of the one before only if
 * the policy accepts it: signed by whom it names, not older, not too old. Whatever else comes, or nothing, changes
 * nothing: the copy at hand goes on to count until it is too old for the policy, and then refuses every kernel. So
 * whoever stands in between can withhold news for as long as the policy's `maxAgeDays` and no longer.
 */
export function fetchFeeds(
  policy: Policy,
  options: { readonly now: Date; readonly ca?: string | undefined; readonly timeoutMs?: number },
): Promise<FetchedFeed[]> {
  return Promise.all(
    allPolicies(policy).flatMap((owner) => owner.feeds.flatMap((feed) => fetchFeed(owner, feed, options) ?? [])),
  );
}

function fetchFeed(
  owner: Policy,
  feed: Feed,
  { now, ca, timeoutMs = 60_000 }: Parameters<typeof fetchFeeds>[1],
): Promise<FetchedFeed> | undefined {
  if (!("url" in feed.location)) return undefined;
  const { url } = feed.location;
  const { id } = feed;
  const seen = owner.documents?.seen[id] ?? 0;
  const judged = (bytes: Uint8Array) =>
    openFeed(
      feed,
      withDocuments(owner, { feeds: new Map([[id, bytes]]), exceptions: [], seen: {} }),
      { [id]: seen },
      now,
    );
  const before = readIfThere(cachedFeed(url));
  const had = before && judged(before);
  const take = async (): Promise<FetchedFeed> => {
    const bytes = await download(url, ca, timeoutMs);
    const { node, sequence = 0 } = judged(bytes);
    if (!node.ok) refuse(node.code ?? "KL_FEED_INVALID", url, node.reason ?? "it is refused");
    const newest = Math.max(had?.sequence ?? 0, seen);
    if (sequence < newest) refuse("KL_FEED_ROLLBACK", url, `it is number ${sequence}, and ${newest} is at hand`);
    if (before && had?.sequence === sequence) {
      // Every change has a number of its own: two contents under one number would be for two kinds of readers.
      if (describeBundle(before)?.payload !== describeBundle(bytes)?.payload) {
        refuse("KL_FEED_ROLLBACK", url, `its number ${sequence} has another content than the copy at hand`);
      }
      return { id, url, outcome: "same", counts: had.node.ok };
    }
    writeAtomic(cachedFeed(url), bytes);
    rememberFeeds(owner, "", { [id]: sequence });
    return { id, url, outcome: "taken", counts: true };
  };
  return take().catch((problem: unknown) => {
    if (!(problem instanceof KernlockError)) throw problem;
    return { id, url, outcome: "failed", problem, counts: had?.node.ok ?? false };
  });
}

/** What went wrong with feeds, for people; what follows from it, a verdict says. */
export function feedNotes(feeds: readonly FetchedFeed[]): string[] {
  const then = (counts: boolean) =>
    counts ? "The copy at hand still counts." : "There is no copy at hand that counts.";
  return feeds.flatMap(({ problem, counts }) =>
    problem === undefined ? [] : [`warning: [${problem.code}] ${problem.message} ${then(counts)}`],
  );
}

/** The first feed that neither came nor counts as it is at hand. */
export function missingFeed(feeds: readonly FetchedFeed[]): KernlockError | undefined {
  return feeds.find(({ counts }) => !counts)?.problem;
}

function refuse(code: ErrorCode, url: string, why: string, cause?: unknown): never {
  return fail(code, `The feed at ${url} is not taken: ${why.replace(/\.$/, "")}.`, {
    remedy: "Try again later, or ask whoever publishes the feed.",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** What keeps bytes from coming, in words of its own: the registry's client says them of a registry. */
const transport: Readonly<Record<string, string>> = {
  KL_OCI_CONNECT: "there is no connection to it, or it broke (a private authority is named with --ca)",
  KL_OCI_TIMEOUT: "it took too long",
  KL_OCI_TOO_LARGE: `it is larger than ${maxFeed >> 20} MiB`,
  KL_OCI_PROTOCOL: "it redirects too often or away from https, or is compressed",
};

async function download(url: string, ca: string | undefined, timeoutMs: number): Promise<Uint8Array> {
  const http = new HttpClient({ origin: new URL(url).origin, ca, timeoutMs });
  try {
    // A deadline for the whole: one that sends a byte now and then must not keep a lock waiting for ever.
    const answer = await http.send("GET", new URL(url), { signal: AbortSignal.timeout(timeoutMs) });
    if (answer.status !== 200) refuse("KL_FEED_FETCH", url, `the answer is ${answer.status}`);
    return await readAll(answer, maxFeed, "a feed");
  } catch (error) {
    if (!(error instanceof KernlockError) || error.code === "KL_FEED_FETCH") throw error;
    return refuse("KL_FEED_FETCH", url, transport[error.code] ?? error.message, error);
  } finally {
    await http.close();
  }
}

function readIfThere(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function writeAtomic(path: string, bytes: Uint8Array | string): void {
  const fresh = `${path}.${process.pid}.new`;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(fresh, bytes, { mode: 0o600 });
  renameSync(fresh, path);
}
