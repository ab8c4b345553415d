/** OCI blobs: download with Range, and every way to upload. */
import { type Digest, fail, isDigest } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { mayRead, mayWrite, requireRead, requireWrite } from "../access.ts";
import type { Context } from "../context.ts";
import { repositoryOf } from "./names.ts";
import { parseContentRange, parseRange } from "./ranges.ts";
import type { Session, Uploads } from "./uploads.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly digest: string;
  readonly id: string;
}
interface UploadQuery {
  readonly digest?: string;
  readonly mount?: string;
  readonly from?: string;
}
type Request = FastifyRequest<{ Params: Params; Querystring: UploadQuery }>;

export function blobRoutes(app: FastifyInstance, context: Context, uploads: Uploads): void {
  const { blobs, catalog } = context;

  app.route<{ Params: Params; Querystring: UploadQuery }>({
    method: ["GET", "HEAD"],
    url: "/v2/:namespace/:name/blobs/:digest",
    async handler(request, reply) {
      const { repository, namespace } = repositoryOf(request.params);
      const owner = requireRead(request.principal, catalog.namespace(namespace));
      const digest = digestParameter(request.params.digest);
      const known = catalog.hasBlob(repository, digest, !mayWrite(request.principal, namespace));
      // Some clients send what they have only after a 401; they shall find what they pushed.
      if (!known && request.principal.kind === "anonymous" && catalog.hasBlob(repository, digest, false)) {
        requireWrite(request.principal, namespace);
      }
      const size = known ? await blobs.size(digest) : undefined;
      if (size === undefined) return blobUnknown(digest);
      reply.headers({
        "docker-content-digest": digest,
        etag: `"${digest}"`,
        "accept-ranges": "bytes",
        "content-type": "application/octet-stream",
        "cache-control": `${owner.visibility}, max-age=31536000, immutable`,
        // Somebody else's file: never a page of this site.
        "content-disposition": "attachment",
        "content-security-policy": "default-src 'none'; sandbox",
      });
      if (request.headers["if-none-match"] === `"${digest}"`) return reply.code(304).send();
      const range = parseRange(request.headers.range, size);
      const { start, end } = range ?? { start: 0, end: size - 1 };
      reply.header("content-length", end - start + 1);
      if (range !== undefined) reply.code(206).header("content-range", `bytes ${start}-${end}/${size}`);
      if (request.method === "HEAD" || size === 0) return reply.send();
      return reply.send(blobs.read(digest, { start, end }));
    },
  });

  app.delete<{ Params: Params }>("/v2/:namespace/:name/blobs/:digest", async (request) => {
    requireWrite(request.principal, repositoryOf(request.params).namespace);
    return fail("KL_REGISTRY_IMMUTABLE", "Blobs cannot be deleted here.", {
      remedy: "Unreferenced blobs go away by the registry's own collection.",
    });
  });

  app.post<{ Params: Params; Querystring: UploadQuery }>("/v2/:namespace/:name/blobs/uploads/", begin);
  app.post<{ Params: Params; Querystring: UploadQuery }>("/v2/:namespace/:name/blobs/uploads", begin);

  async function begin(request: Request, reply: FastifyReply) {
    const { repository, namespace } = repositoryOf(request.params);
    const { tokenId } = requireWrite(request.principal, namespace);
    const { digest, mount, from } = request.query;
    if (mount !== undefined && from !== undefined && mayMount(request, digestParameter(mount), from)) {
      catalog.addBlob(repository, digestParameter(mount));
      return created(reply, repository, digestParameter(mount));
    }
    const expected = digest === undefined ? undefined : digestParameter(digest);
    const session = await uploads.begin(repository, tokenId);
    if (expected === undefined) return progress(reply.code(202), session);
    return finish(request, reply, session, expected);
  }

  app.patch<{ Params: Params }>("/v2/:namespace/:name/blobs/uploads/:id", async (request, reply) => {
    return use(request, async (session) => {
      const announced = parseContentRange(request.headers["content-range"], request.headers["content-length"]);
      if (announced !== undefined && announced.start !== session.incoming.size) wrongOffset(session, announced.start);
      await receive(request, session, announced?.length);
      return progress(reply.code(202), session);
    });
  });

  app.put<{ Params: Params; Querystring: UploadQuery }>(
    "/v2/:namespace/:name/blobs/uploads/:id",
    async (request, reply) => {
      return use(request, (session) => finish(request, reply, session, digestParameter(request.query.digest ?? "")));
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
    const { repository, namespace } = repositoryOf(request.params);
    const { tokenId } = requireWrite(request.principal, namespace);
    return uploads.use(request.params.id, { repository, tokenId }, work);
  }

  /** Takes the rest of the bytes and makes them a blob. Whatever goes wrong, the session and its bytes are gone. */
  async function finish(request: FastifyRequest, reply: FastifyReply, session: Session, expected: Digest) {
    try {
      const range = request.headers["content-range"];
      const announced = parseContentRange(range, request.headers["content-length"]);
      if (range !== undefined && announced!.start !== session.incoming.size) wrongOffset(session, announced!.start);
      await receive(request, session, announced?.length);
      const { digest } = await session.incoming.commit(expected);
      catalog.addBlob(session.repository, digest);
      return created(reply, session.repository, digest);
    } finally {
      await uploads.end(session);
    }
  }

  async function receive(request: FastifyRequest, session: Session, length: number | undefined): Promise<void> {
    const before = session.incoming.size;
    // Without `destroyOnReturn` a refusal in the middle would cut the connection, and its reason with it.
    await session.incoming.append(request.raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>);
    const received = session.incoming.size - before;
    if (length !== undefined && received !== length) {
      fail("KL_REGISTRY_LENGTH_MISMATCH", `The request announced ${length} bytes and brought ${received}.`, {
        remedy: "Announce the length that is sent.",
        details: { announced: length, received },
      });
    }
  }

  function mayMount(request: Request, digest: Digest, from: string): boolean {
    const [namespace = "", name = "", ...rest] = from.split("/");
    if (rest.length > 0) return false;
    const source = repositoryOf({ namespace, name });
    const row = catalog.namespace(source.namespace);
    if (!mayRead(request.principal, row)) return false;
    return catalog.hasBlob(source.repository, digest, !mayWrite(request.principal, source.namespace));
  }
}

function digestParameter(text: string): Digest {
  if (isDigest(text)) return text;
  return fail("KL_REGISTRY_DIGEST_INVALID", "The digest is not `sha256:` and 64 lower case hexadecimal digits.", {
    remedy: "Compute the sha256 of the bytes.",
  });
}

function blobUnknown(digest: Digest): never {
  return fail("KL_REGISTRY_BLOB_UNKNOWN", `This repository has no blob ${digest}.`, {
    remedy: "Check the digest against the package's index.",
    details: { digest },
  });
}

function wrongOffset(session: Session, start: number): never {
  return fail("KL_REGISTRY_UPLOAD_RANGE", `The upload goes on at byte ${session.incoming.size}, not ${start}.`, {
    remedy: "Ask for the upload's status and go on from there.",
    details: { offset: session.incoming.size },
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

function created(reply: FastifyReply, repository: string, digest: Digest): FastifyReply {
  return reply
    .code(201)
    .headers({ location: `/v2/${repository}/blobs/${digest}`, "docker-content-digest": digest })
    .send();
}
