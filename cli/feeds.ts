import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { digestOf, fail, parseStrictJson, prettyJson } from "@kernlock/kernels/format";
import { allPolicies, type Feed, type Policy } from "@kernlock/policies/trust";
import { request } from "undici";
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
  mkdirSync(stateFolder(), { recursive: true, mode: 0o700 });
  writeFileSync(`${seenPath()}.new`, prettyJson(seen), { mode: 0o600 });
  renameSync(`${seenPath()}.new`, seenPath());
}

/** Brings the newest copy of every feed that a policy has at a URL. What came is not trusted here. */
export async function fetchFeeds(policy: Policy): Promise<number> {
  let fetched = 0;
  for (const { location } of allPolicies(policy).flatMap(({ feeds }) => feeds)) {
    if (!("url" in location)) continue;
    const bytes = await download(location.url);
    const path = cachedFeed(location.url);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    fetched++;
  }
  return fetched;
}

async function download(url: string): Promise<Buffer> {
  const refuse = (why: string, cause?: unknown): never =>
    fail("KL_FEED_FETCH", `The feed at ${url} cannot be fetched (${why}).`, {
      remedy: "Try again later, or place the feed as a file beside the policy.",
      ...(cause === undefined ? {} : { cause }),
    });
  const answer = await request(url, { headersTimeout: 30_000, bodyTimeout: 60_000 }).catch((error: Error) =>
    refuse((error as NodeJS.ErrnoException).code ?? error.name, error),
  );
  if (answer.statusCode !== 200) refuse(`status ${answer.statusCode}`);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer.body) {
    size += (chunk as Uint8Array).byteLength;
    if (size > maxFeed) refuse("too large");
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}
