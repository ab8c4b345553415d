/** What watches over the process asks: is it alive, can it serve, what does it count. */
import { fail } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import type { Context } from "../context.ts";
import type { Uploads } from "../oci/uploads.ts";

/** Answers are kept this long, so that asking often costs nothing. */
const keepMs = 1000;
const patienceMs = 3000;

export function statusRoutes(
  app: FastifyInstance,
  context: Context,
  state: { uploads: Uploads; stopping: () => boolean },
): void {
  const { records, blobs, metrics } = context;
  // The database last: on a disk that hangs, SQLite would keep the whole process waiting.
  const probe = oneAtATime(async () => {
    await blobs.check();
    await records.pingWrite(context.now().toISOString());
  });
  const ready = kept(() => within("the storage", probe()));
  const counts = kept(() => records.counts());

  app.get("/healthz", async () => ({ status: "ok" }));

  app.get("/readyz", async (_request, reply) => {
    reply.header("cache-control", "no-store");
    if (state.stopping()) return reply.code(503).send({ status: "stopping" });
    try {
      await ready();
      return await reply.send({ status: "ready" });
    } catch (error) {
      app.log.error({ err: error }, "not ready");
      return reply.code(503).send({ status: "failing" });
    }
  });

  app.get("/metrics", async (request, reply) => {
    const { principal } = request;
    if (principal.kind === "anonymous") {
      fail("KL_REGISTRY_UNAUTHORIZED", "Metrics need a token.", { remedy: "Send a token made for all namespaces." });
    }
    if (principal.kind !== "token" || principal.namespace !== "*") {
      fail("KL_REGISTRY_TOKEN_NAMESPACE", "Metrics are for tokens of all namespaces.", {
        remedy: "Make one with `kernlock registry token create --namespace '*' --role reader`.",
      });
    }
    const { namespaces, kernels, versions, manifests, blobs: blobCount, bytes } = await counts();
    const gauges = {
      kernlock_namespaces: namespaces,
      kernlock_kernels: kernels,
      kernlock_versions: versions,
      kernlock_manifests: manifests,
      kernlock_blobs: blobCount,
      kernlock_blob_bytes: bytes,
      kernlock_open_uploads: state.uploads.count(),
    };
    return reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8").send(metrics.render(gauges));
  });
}

function kept<T>(ask: () => Promise<T>): () => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  return () => {
    const now = performance.now();
    if (last === undefined || now - last.at > keepMs) last = { at: now, answer: ask() };
    return last.answer;
  };
}

/** Where the last one still hangs, there is no sense in another. */
function oneAtATime<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => {
    running ??= work().finally(() => {
      running = undefined;
    });
    return running;
  };
}

function within(what: string, work: Promise<unknown>): Promise<unknown> {
  let timer: NodeJS.Timeout;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`${what} does not answer`)), patienceMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
