/** How a registry is, for those who run it: what it holds, what is left, when it was last looked after. */
import { readFileSync } from "node:fs";
import type { FastifyInstance } from "fastify";
import { requireWholeRegistry } from "../api/routes.ts";
import type { Context } from "../context.ts";
import type { AuditHead, ChoreName } from "../store/records.ts";

export const chores: readonly ChoreName[] = ["gc", "scrub", "fsck", "backup"];

export interface Health {
  readonly at: string;
  /** Null, or why it cannot be used. */
  readonly problems: { readonly database: string | null; readonly storage: string | null };
  readonly database: { readonly kind: "sqlite" | "postgres"; readonly bytes: number; readonly schema: number };
  readonly storage: {
    readonly kind: "folder" | "s3";
    readonly blobs: number;
    readonly bytes: number;
    readonly damaged: number;
    /** Of the disk below it; null where there is none. */
    readonly disk: { readonly free: number; readonly total: number } | null;
  };
  readonly counts: { readonly namespaces: number; readonly kernels: number; readonly versions: number };
  readonly waiting: number;
  readonly last: Readonly<Record<ChoreName, { readonly at: string; readonly outcome: Record<string, unknown> } | null>>;
  readonly audit: AuditHead;
  readonly versions: { readonly kernlock: string; readonly node: string };
}

const patienceMs = 4000;
const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

export async function healthOf({ records, blobs, now }: Pick<Context, "records" | "blobs" | "now">): Promise<Health> {
  const [database, storage] = await Promise.all([
    problemOf(records.pingWrite(now().toISOString())),
    problemOf(blobs.check()),
  ]);
  const counts = await records.counts();
  const done = new Map((await records.chores()).map((row) => [row.name, row]));
  const lastOf = (name: ChoreName) => {
    const row = done.get(name);
    return row === undefined ? null : { at: row.at, outcome: JSON.parse(row.outcome) as Record<string, unknown> };
  };
  const { namespaces, kernels, versions } = counts;
  return {
    at: now().toISOString(),
    problems: { database, storage },
    database: { kind: records.dialect, ...(await records.databaseFacts()) },
    storage: {
      kind: blobs.kind,
      blobs: counts.blobs,
      bytes: counts.bytes,
      damaged: await records.countDamaged(),
      disk: (await blobs.room?.().catch(() => null)) ?? null,
    },
    counts: { namespaces, kernels, versions },
    waiting: (await records.reviewQueue(1000)).waiting.length,
    last: { gc: lastOf("gc"), scrub: lastOf("scrub"), fsck: lastOf("fsck"), backup: lastOf("backup") },
    audit: await records.auditHead(),
    versions: { kernlock: version, node: process.versions.node },
  };
}

export function healthRoutes(app: FastifyInstance, context: Context): void {
  app.get("/api/v1/health", async (request, reply) => {
    requireWholeRegistry(request.principal);
    return reply.header("cache-control", "no-store").send(await healthOf(context));
  });
}

async function problemOf(work: Promise<unknown>): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((done) => {
    timer = setTimeout(() => done("does not answer"), patienceMs);
  });
  try {
    return await Promise.race([
      work.then(
        () => null,
        (error: NodeJS.ErrnoException) => `cannot be written to (${error.code ?? error.name})`,
      ),
      late,
    ]);
  } finally {
    clearTimeout(timer);
  }
}
