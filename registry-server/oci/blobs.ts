/** OCI blobs: download with Range, and every way to upload. */
import { fail } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { may, mayRead, requireAction, requireRead, seesUnpublished } from "../access.ts";
import type { Context } from "../context.ts";
import type { ContentDigest } from "../store/digests.ts";
import type { BlobRow } from "../store/records.ts";
import { digestParameter, isUnchanged, quarantined, repositoryOf } from "./names.ts";
import { parseRange } from "./ranges.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly digest: string;
}

/** Seconds for which an address of the blob store works. */
const presignedSeconds = 120;
/** A look-up by somebody who may push keeps the blob for another grace period; once a minute is enough. */
const touchAgainMs = 60_000;

export function blobRoutes(app: FastifyInstance, context: Context): void {
  const { blobs, records } = context;

  app.route<{ Params: Params }>({
    method: ["GET", "HEAD"],
    url: "/v2/:namespace/:name/blobs/:digest",
    async handler(request, reply) {
      const { repository, namespace } = repositoryOf(request.params);
      const owner = requireRead(request.principal, await records.namespace(namespace));
      const digest = digestParameter(request.params.digest);
      const row = await readable(request, repository, digest);
      const size = await soundSize(digest, row);
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
      if (isUnchanged(request.headers["if-none-match"], `"${digest}"`)) return reply.code(304).send();
      const condition = request.headers["if-range"];
      const whole = condition !== undefined && condition !== `"${digest}"`;
      const range = whole ? undefined : parseRange(request.headers.range, size);
      const { start, end } = range ?? { start: 0, end: size - 1 };
      if (request.method === "GET" && mayRedirect(size)) {
        const address = await blobs.presign!(digest, presignedSeconds);
        return reply.code(307).headers({ location: address, "cache-control": "no-store" }).send();
      }
      reply.header("content-length", end - start + 1);
      if (range !== undefined) reply.code(206).header("content-range", `bytes ${start}-${end}/${size}`);
      if (request.method === "HEAD" || size === 0) return reply.send();
      return send(reply, digest, { start, end });
    },
  });

  app.delete<{ Params: Params }>("/v2/:namespace/:name/blobs/:digest", async (request, reply) => {
    const { repository, namespace } = repositoryOf(request.params);
    const { actor } = requireAction(request.principal, "publish", repository);
    const digest = digestParameter(request.params.digest);
    requireDeletion(await records.namespace(namespace));
    if ((await records.blob(repository, digest)) === undefined) return blobUnknown(digest);
    const at = context.now().toISOString();
    await records.removeBlob(repository, digest, {
      at,
      actor,
      action: "blob.delete",
      subject: repository,
      details: { digest },
    });
    return reply.code(202).send();
  });

  async function readable(request: FastifyRequest, repository: string, digest: ContentDigest): Promise<BlobRow> {
    const row = await records.blob(repository, digest);
    if (row === undefined || row.state === "deleting") return blobUnknown(digest);
    if (row.visible === -1) quarantined(`The blob ${digest}`);
    if (row.visible === 1) return row;
    // Some clients send what they have only after a 401; they shall find what they pushed.
    if (request.principal.kind === "anonymous") requireAction(request.principal, "publish", repository);
    if (!seesUnpublished(request.principal, repository)) return blobUnknown(digest);
    const now = context.now();
    if (now.getTime() - Date.parse(row.touchedAt) > touchAgainMs) {
      await records.touchBlob(repository, digest, now.toISOString());
    }
    return row;
  }

  /** A blob of another size than was stored is damaged, whoever did it. */
  async function soundSize(digest: ContentDigest, row: BlobRow): Promise<number> {
    const size = row.state === "present" ? await blobs.size(digest) : undefined;
    if (size !== undefined && (row.size === null || row.size === size)) return size;
    context.metrics.count("kernlock_damaged_blobs_total");
    return fail("KL_REGISTRY_BLOB_DAMAGED", `The stored bytes of ${digest} are damaged and are not handed out.`, {
      remedy: "Ask the registry's operator to run `kernlock registry fsck`; pushing the blob again repairs it.",
      details: { digest },
    });
  }

  function mayRedirect(size: number): boolean {
    return context.redirectFromBytes !== undefined && size >= context.redirectFromBytes && blobs.presign !== undefined;
  }

  async function send(reply: FastifyReply, digest: ContentDigest, range: { start: number; end: number }) {
    if (blobs.open === undefined) {
      context.metrics.count("kernlock_download_bytes_total", {}, range.end - range.start + 1);
      return reply.send(blobs.read(digest, range));
    }
    const file = await blobs.open(digest);
    try {
      reply.hijack();
      reply.raw.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string | number>);
      context.metrics.count("kernlock_download_bytes_total", {}, await context.transfers.send(file, range, reply.raw));
    } finally {
      await file.close();
    }
    return reply;
  }
}

/** KL_REGISTRY_IMMUTABLE unless the namespace allows deletion. */
export function requireDeletion(namespace: { kind: string; deletion: string } | undefined): void {
  if (namespace?.kind === "artifacts" && namespace.deletion === "allowed") return;
  fail("KL_REGISTRY_IMMUTABLE", "Nothing can be deleted in this namespace.", {
    remedy: "Published versions stay, since a lock may pin them; a bad one can be yanked.",
  });
}

export function blobUnknown(digest: string): never {
  return fail("KL_REGISTRY_BLOB_UNKNOWN", `This repository has no blob ${digest}.`, {
    remedy: "Check the digest against the package's index.",
    details: { digest },
  });
}

/** Whether somebody may take this blob of a repository into another one. */
export async function mayMount(
  context: Context,
  request: FastifyRequest,
  source: string,
  digest: ContentDigest,
): Promise<boolean> {
  const [namespace = ""] = source.split("/");
  if (!mayRead(request.principal, await context.records.namespace(namespace))) return false;
  const row = await context.records.blob(source, digest);
  if (row === undefined || row.state !== "present" || row.visible === -1) return false;
  return row.visible === 1 || may(request.principal, "publish", source);
}
