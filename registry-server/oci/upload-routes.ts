/** Uploads: in one request, in two, in chunks, or by mounting what another repository has. */
import { setTimeout as sleep } from "node:timers/promises";
import { fail } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { may, requireAction } from "../access.ts";
import type { Context } from "../context.ts";
import type { ContentDigest } from "../store/digests.ts";
import { mayMount } from "./blobs.ts";
import { digestParameter, repositoryOf } from "./names.ts";
import { parseContentRange } from "./ranges.ts";
import type { Session, Uploads } from "./uploads.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly id: string;
}
interface UploadQuery {
  readonly digest?: string;
  readonly mount?: string;
  readonly from?: string;
}
type Request = FastifyRequest<{ Params: Params; Querystring: UploadQuery }>;

/** Who may only attest uploads bundles, which are small. */
const maxAttestationBytes = 4 << 20;
/** Sources that are tried for a mount which names none. */
const maxMountSources = 50;
const deletingWaitMs = 10_000;
/** After these an upload can go on: what arrived is kept, and its status says how much that is. */
const resumable = new Set(["KL_REGISTRY_UPLOAD_CUT", "KL_REGISTRY_UPLOAD_RANGE", "KL_REGISTRY_LENGTH_MISMATCH"]);

export function uploadRoutes(app: FastifyInstance, context: Context, uploads: Uploads): void {
  const { records } = context;

  app.post<{ Params: Params; Querystring: UploadQuery }>("/v2/:namespace/:name/blobs/uploads/", begin);
  app.post<{ Params: Params; Querystring: UploadQuery }>("/v2/:namespace/:name/blobs/uploads", begin);

  async function begin(request: Request, reply: FastifyReply) {
    const { repository } = repositoryOf(request.params);
    const { tokenId } = requireAction(request.principal, "attest", repository);
    const { digest, mount, from } = request.query;
    if (mount !== undefined && (await mounted(request, repository, digestParameter(mount), from))) {
      return created(reply, repository, digestParameter(mount));
    }
    const expected = digest === undefined ? undefined : digestParameter(digest);
    const session = await uploads.begin(repository, tokenId);
    if (expected === undefined) return progress(reply.code(202), session);
    try {
      return await finish(request, reply, session, expected);
    } finally {
      await uploads.end(session);
    }
  }

  app.patch<{ Params: Params }>("/v2/:namespace/:name/blobs/uploads/:id", async (request, reply) => {
    return use(request, async (session) => {
      await receive(request, reply, session);
      return progress(reply.code(202), session);
    });
  });

  app.put<{ Params: Params; Querystring: UploadQuery }>(
    "/v2/:namespace/:name/blobs/uploads/:id",
    async (request, reply) => {
      return use(request, async (session) => {
        try {
          const answer = await finish(request, reply, session, digestParameter(request.query.digest ?? ""));
          await uploads.end(session);
          return answer;
        } catch (error) {
          if (!resumable.has((error as { code?: string }).code ?? "")) await uploads.end(session);
          throw error;
        }
      });
    },
  );

  app.get<{ Params: Params }>("/v2/:namespace/:name/blobs/uploads/:id", async (request, reply) => {
    return use(request, async (session) => progress(reply.code(204), session));
  });

  app.delete<{ Params: Params }>("/v2/:namespace/:name/blobs/uploads/:id", async (request, reply) => {
    return use(request, async (session) => {
      await uploads.end(session);
      return reply.code(204).send();
    });
  });

  function use<T>(request: FastifyRequest<{ Params: Params }>, work: (session: Session) => Promise<T>): Promise<T> {
    const { repository } = repositoryOf(request.params);
    const { tokenId } = requireAction(request.principal, "attest", repository);
    return uploads.use(request.params.id, { repository, tokenId }, work);
  }

  /** Takes the rest of the bytes, makes them a blob, and tells the repository of it, in this order. */
  async function finish(request: FastifyRequest, reply: FastifyReply, session: Session, expected: ContentDigest) {
    await receive(request, reply, session);
    const { size } = await session.incoming.commit(expected, () => announce(expected));
    await records.addBlob({ repository: session.repository, digest: expected, size, now: now() });
    return created(reply, session.repository, expected);
  }

  async function announce(digest: ContentDigest): Promise<void> {
    for (let waited = 0; waited < deletingWaitMs; waited += 50) {
      if (await records.announceBlob(digest, now())) return;
      await sleep(50);
    }
    fail("KL_REGISTRY_UPLOAD_BUSY", "The same bytes are being deleted right now.", { remedy: "Send them again." });
  }

  async function receive(request: FastifyRequest, reply: FastifyReply, session: Session): Promise<void> {
    const announced = parseContentRange(request.headers["content-range"], request.headers["content-length"]);
    const before = session.incoming.size;
    if (announced !== undefined && announced.start !== before) wrongOffset(before, announced.start);
    const limit = may(request.principal, "publish", session.repository) ? undefined : maxAttestationBytes;
    try {
      await session.incoming.append(context.transfers.body(request.raw, reply.raw), limit);
    } catch (error) {
      // What is still coming is dropped: who goes on sending would not get to read why nobody takes it.
      request.raw.resume();
      throw error;
    } finally {
      context.metrics.count("kernlock_upload_bytes_total", {}, session.incoming.size - before);
    }
    const received = session.incoming.size - before;
    if (announced !== undefined && received !== announced.length) {
      fail("KL_REGISTRY_LENGTH_MISMATCH", `The request announced ${announced.length} bytes and brought ${received}.`, {
        remedy: "Announce the length that is sent.",
        details: { announced: announced.length, received },
      });
    }
  }

  async function mounted(request: Request, repository: string, digest: ContentDigest, from: string | undefined) {
    const sources = from === undefined ? await records.repositoriesWith(digest, maxMountSources) : [from];
    for (const source of sources) {
      const [namespace = "", name = "", ...rest] = source.split("/");
      if (rest.length > 0) continue;
      if (!(await mayMount(context, request, repositoryOf({ namespace, name }).repository, digest))) continue;
      if (await records.mountBlob({ repository, digest, now: now() })) return true;
    }
    return false;
  }

  function now(): string {
    return context.now().toISOString();
  }
}

function wrongOffset(offset: number, start: number): never {
  return fail("KL_REGISTRY_UPLOAD_RANGE", `The upload goes on at byte ${offset}, not ${start}.`, {
    remedy: "Ask for the upload's status and go on from there.",
    details: { offset },
  });
}

function progress(reply: FastifyReply, session: Session): FastifyReply {
  const { id, size } = session.incoming;
  return reply
    .headers({
      location: `/v2/${session.repository}/blobs/uploads/${id}`,
      "docker-upload-uuid": id,
      range: `0-${Math.max(0, size - 1)}`,
    })
    .send();
}

function created(reply: FastifyReply, repository: string, digest: ContentDigest): FastifyReply {
  return reply
    .code(201)
    .headers({ location: `/v2/${repository}/blobs/${digest}`, "docker-content-digest": digest })
    .send();
}
