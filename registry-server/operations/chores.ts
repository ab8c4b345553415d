/** What a server does by itself from time to time. */
import type { FastifyBaseLogger } from "fastify";
import { refreshFeeds } from "../publish/feeds.ts";
import type { OperatorPolicy } from "../publish/policies.ts";
import { forgetSessions } from "../sessions/sessions.ts";
import { collectGarbage, type Parts } from "./maintenance.ts";
import type { Metrics } from "./metrics.ts";

const forgetEveryMs = 3600_000;

export function startChores(
  parts: Parts & { readonly operator: OperatorPolicy | undefined },
  metrics: Metrics,
  log: FastifyBaseLogger,
  options: { feedsEverySeconds: number; gcEverySeconds?: number; gcGraceSeconds?: number },
): { stop(): Promise<void> } {
  let running: Promise<unknown> = Promise.resolve();
  const every = (ms: number, what: string, work: () => Promise<unknown>) =>
    setInterval(() => {
      running = running.then(work).catch((error: Error) => log.error({ err: error }, `${what} failed`));
    }, ms).unref();

  const timers = [
    every(forgetEveryMs, "forgetting expired tokens", () => parts.records.forgetExpired(parts.now().toISOString())),
    every(forgetEveryMs, "forgetting ended sessions", () => forgetSessions(parts.records, parts.now())),
  ];
  if (options.feedsEverySeconds > 0) {
    const look = async () => {
      for (const { namespace, id, outcome, sequence, problem } of await refreshFeeds(parts)) {
        metrics.count("kernlock_feed_refreshes_total", { outcome });
        if (outcome === "failed") log.warn({ namespace, feed: id, problem }, "a feed was not renewed");
        if (outcome === "taken") log.info({ namespace, feed: id, sequence }, "took a new number of a feed");
      }
    };
    timers.push(every(options.feedsEverySeconds * 1000, "renewing feeds", look));
    running = running.then(look).catch((error: Error) => log.error({ err: error }, "renewing feeds failed"));
  }
  if (options.gcEverySeconds !== undefined) {
    timers.push(
      every(options.gcEverySeconds * 1000, "garbage collection", async () => {
        const { blobs, manifests, bytes } = await collectGarbage(parts, {
          ...(options.gcGraceSeconds === undefined ? {} : { graceSeconds: options.gcGraceSeconds }),
        });
        metrics.count("kernlock_gc_freed_blobs_total", {}, blobs.length);
        if (blobs.length + manifests > 0) log.info({ blobs: blobs.length, manifests, bytes }, "collected garbage");
      }),
    );
  }
  return {
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await running;
    },
  };
}
