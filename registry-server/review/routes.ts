/** What waits for a second person, and their decision. */
import { fail, isPackageName, parseStrictJson } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import { type Principal, seesUnpublished } from "../access.ts";
import { reviewDecision } from "../api/shapes.ts";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import type { ReviewRow } from "../store/records.ts";
import { decide, mayApprove } from "./review.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly version: string;
}

const mostListed = 1000;

export function reviewRoutes(app: FastifyInstance, context: Context, publisher: Publisher): void {
  app.get("/api/v1/reviews", async (request, reply) => {
    const { principal } = request;
    if (principal.kind === "anonymous") {
      return fail("KL_REGISTRY_UNAUTHORIZED", "What waits is shown to members.", { remedy: "Log in." });
    }
    const { waiting, decided } = await reviewsFor(context, principal);
    return reply
      .header("cache-control", "no-store")
      .send({ waiting: waiting.map(reviewDocument), decided: decided.map(({ row }) => reviewDocument({ row })) });
  });

  app.put<{ Params: Params }>("/api/v1/kernels/:namespace/:name/:version/review", async (request, reply) => {
    const { namespace, name, version } = request.params;
    const repository = `${namespace}/${name}`;
    const wanted = reviewDecision.safeParse(
      parseStrictJson(await readBody(request.raw, 16_384), { what: "The request" }),
    );
    if (!wanted.success || !isPackageName(repository)) {
      return fail("KL_REGISTRY_BAD_REQUEST", "The request is not `decision` and `reason`.", {
        remedy: 'Send {"decision":"approve"} or {"decision":"reject","reason":"…"}.',
      });
    }
    const { decision, reason = null } = wanted.data;
    const { principal } = request;
    const row = await decide(context, publisher, { principal, repository, version, decision, reason });
    return reply.send(reviewDocument({ row }));
  });
}

export interface Review {
  readonly row: ReviewRow;
  /** Whether this reader could approve it. */
  readonly approvable: boolean;
}

/** Of the packages whose member this reader is. */
export async function reviewsFor(
  { records }: Context,
  principal: Principal,
): Promise<{ waiting: Review[]; decided: Review[] }> {
  const { waiting, decided } = await records.reviewQueue(mostListed);
  const seen = (rows: readonly ReviewRow[]) =>
    Promise.all(
      rows
        .filter((row) => seesUnpublished(principal, row.repository))
        .map(async (row) => ({ row, approvable: await mayApprove(records, principal, row) })),
    );
  return { waiting: await seen(waiting), decided: (await seen(decided)).slice(0, 50) };
}

function reviewDocument({ row, approvable }: { row: ReviewRow; approvable?: boolean }) {
  return {
    name: row.repository,
    version: row.version,
    digest: row.digest,
    state: row.state,
    asked_at: row.askedAt,
    asked_by: row.askedBy,
    decided_at: row.decidedAt,
    decided_by: row.decidedBy,
    reason: row.reason,
    ...(approvable === undefined ? {} : { approvable }),
  };
}
