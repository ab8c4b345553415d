/** What an operator does with the documents that policies of namespaces name. */
import { parsePolicy } from "@kernlock/policies/trust";
import type { Namespace } from "../admin.ts";
import type { Records } from "../store/records.ts";
import { type KeptException, keepException, keptExceptions } from "./exceptions.ts";
import {
  checkFeedAddress,
  download,
  type FeedStatus,
  feedStatus,
  type Refreshed,
  refreshFeeds,
  type TakenFeed,
  takeFeed,
} from "./feeds.ts";

export type { FeedStatus, KeptException, Refreshed, TakenFeed };

export interface PolicyDocuments {
  /**
   * Brings a feed that the namespace's policy names: these bytes, until others are brought, or what is at an address,
   * now and from time to time. Throws KL_FEED_*, KL_REGISTRY_FEED_UNNAMED, _FEED_ADDRESS; then nothing has changed.
   */
  setFeed(options: { namespace: string; feed: string } & ({ bytes: Uint8Array } | { url: string })): Promise<TakenFeed>;
  /** All that the policy names, and whether a publish would pass them now. */
  listFeeds(namespace: string): Promise<readonly FeedStatus[]>;
  /** Looks at the addresses at once. */
  refreshFeeds(namespace: string): Promise<Refreshed[]>;
  /** Forgets a feed and its newest number; publishes are refused until it is brought again, or the policy changes. */
  removeFeed(options: { namespace: string; feed: string }): Promise<boolean>;
  /** Throws KL_REGISTRY_EXCEPTION. Whether it counts is said when something is published. */
  keepException(options: {
    namespace: string;
    bundle: Uint8Array;
  }): Promise<KeptException & { outcome: "kept" | "same" }>;
  listExceptions(namespace: string): Promise<KeptException[]>;
  removeException(options: { namespace: string; digest: string }): Promise<boolean>;
}

export function policyDocuments(
  records: Records,
  now: () => Date,
  actor: string,
  known: (namespace: string) => Promise<Namespace>,
): PolicyDocuments {
  const parts = { records, now };
  const audit = (action: string, subject: string, details = {}) => ({
    ...{ at: now().toISOString(), actor, action, subject, details },
  });
  return {
    async setFeed({ namespace, feed, ...from }) {
      const policy = parsePolicy((await known(namespace)).policy);
      const copy = { namespace, id: feed, policy, actor };
      if ("bytes" in from) return takeFeed(parts, { ...copy, bytes: from.bytes, url: null });
      const url = checkFeedAddress(from.url);
      return takeFeed(parts, { ...copy, bytes: await download(url), url });
    },
    async listFeeds(namespace) {
      return feedStatus(parts, namespace, parsePolicy((await known(namespace)).policy));
    },
    async refreshFeeds(namespace) {
      await known(namespace);
      return refreshFeeds(parts, { namespace });
    },
    async removeFeed({ namespace, feed }) {
      await known(namespace);
      return records.removeFeed(namespace, feed, audit("feed.remove", `${namespace} ${feed}`));
    },
    async keepException({ namespace, bundle }) {
      await known(namespace);
      return keepException(parts, { namespace, bundle, actor });
    },
    async listExceptions(namespace) {
      await known(namespace);
      return keptExceptions(records, namespace);
    },
    async removeException({ namespace, digest }) {
      await known(namespace);
      return records.removeException(namespace, digest, audit("exception.remove", namespace, { digest }));
    },
  };
}
