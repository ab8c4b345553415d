/** OCI manifests. In a namespace of kernels a tag is a version, and putting it is publishing; elsewhere tags move. */
import type { IncomingHttpHeaders } from "node:http";
import { fail, isVersion } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { may, type Principal, requireAction, requireRead, seesUnpublished } from "../access.ts";
import type { Namespace } from "../admin.ts";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import { storeManifest } from "../publish/store-manifest.ts";
import { findVersion } from "../review/states.ts";
import { algorithmOf, contentDigest, isContentDigest } from "../store/digests.ts";
import type { ManifestRow } from "../store/records.ts";
import { createTurns } from "../store/turns.ts";
import { requireDeletion } from "./blobs.ts";
import { digestParameter, isUnchanged, quarantined, repositoryOf } from "./names.ts";

export interface ManifestParams {
  readonly namespace: string;
  readonly name: string;
  readonly reference: string;
}

export const manifestRoute = "/v2/:namespace/:name/manifests/:reference";
const maxManifestBytes = 4 << 20;
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const maxTagsAtOnce = 50;

export interface ManifestAnswer {
  /** 304: the client has it already. */
  readonly status: 200 | 304;
  /** `content-length` comes with the bytes. */
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes?: Buffer;
}

export interface Manifests {
  /** What GET and HEAD are told. Throws what is to be refused. */
  answer(params: ManifestParams, asked: Asking): Promise<ManifestAnswer>;
}

interface Asking {
  readonly principal: Principal;
  readonly headers: IncomingHttpHeaders;
}

export function createManifests({ records }: Context): Manifests {
  async function resolve(principal: Principal, owner: Namespace, repository: string, tag: string) {
    if (owner.kind === "artifacts") return records.tag(repository, tag);
    const version = await findVersion(records, principal, repository, tag);
    if (version?.withheld === true) quarantined(`${repository} ${tag}`);
    return version?.found.digest;
  }
  return {
    async answer(params, { principal, headers }) {
      const { repository, namespace } = repositoryOf(params);
      const owner = requireRead(principal, await records.namespace(namespace));
      const { reference } = params;
      const byDigest = isContentDigest(reference);
      const digest = byDigest ? reference : await resolve(principal, owner, repository, reference);
      const row = digest === undefined ? undefined : await records.manifest(repository, digest);
      if (row?.visible === -1) quarantined(`${repository} ${reference}`);
      // Some clients send what they have only after a 401; they shall find what they pushed.
      if (row?.visible === 0 && principal.kind === "anonymous") requireAction(principal, "publish", repository);
      if (row === undefined || (row.visible === 0 && !seesUnpublished(principal, repository))) {
        return manifestUnknown(repository, reference);
      }
      const etag = `"${row.digest}"`;
      const unchanged = isUnchanged(headers["if-none-match"], etag);
      const fixed = byDigest && owner.deletion === "never";
      const about = {
        "content-type": row.mediaType,
        "docker-content-digest": row.digest,
        etag,
        "cache-control": fixed ? `${owner.visibility}, max-age=31536000, immutable` : `${owner.visibility}, max-age=0`,
      };
      return unchanged ? { status: 304, headers: about } : { status: 200, headers: about, bytes: row.bytes };
    },
  };
}

export function manifestRoutes(
  app: FastifyInstance,
  context: Context,
  publisher: Publisher,
  manifests: Manifests,
): void {
  const { records } = context;
  // Evidence that arrives while a version is judged waits for its end. Versions are judged side by side.
  const turns = createTurns();

  app.route<{ Params: ManifestParams }>({
    method: ["GET", "HEAD"],
    url: manifestRoute,
    async handler(request, reply) {
      const { status, headers, bytes } = await manifests.answer(request.params, request);
      reply.code(status).headers(headers);
      if (bytes === undefined) return reply.send();
      reply.header("content-length", bytes.byteLength);
      return request.method === "HEAD" ? reply.send() : reply.send(bytes);
    },
  });

  app.put<{ Params: ManifestParams; Querystring: { tag?: string | string[] } }>(
    manifestRoute,
    async (request, reply) => {
      const { repository, namespace } = repositoryOf(request.params);
      const { tokenId, actor } = requireAction(request.principal, "attest", repository);
      const owner = await ownerOf(namespace);
      const { reference } = request.params;
      const byDigest = reference.includes(":");
      const tags = byDigest ? [request.query.tag ?? []].flat() : [reference];
      if (tags.length > maxTagsAtOnce) {
        fail("KL_REGISTRY_BAD_REQUEST", `At most ${maxTagsAtOnce} tags are put at once.`, { remedy: "Put fewer." });
      }
      for (const tag of tags) checkTag(owner, tag);
      const bytes = await readManifest(
        request.raw.iterator({ destroyOnReturn: false }),
        request.headers["content-length"],
      );
      const digest = contentDigest(bytes, byDigest ? algorithmOf(digestParameter(reference)) : "sha256");
      if (byDigest && digest !== reference) digestMismatch(reference, digest);
      const mediaType = (request.headers["content-type"] ?? "").split(";")[0]!.trim();
      let staged = false;
      const put = async () => {
        const publishes = may(request.principal, "publish", repository);
        if (tags.length > 0 && !publishes) requireAction(request.principal, "publish", repository);
        const administers = may(request.principal, "administer", repository);
        const put = { repository, owner, digest, mediaType, bytes, publishes, administers, actor };
        const stored = await storeManifest(context, put);
        try {
          for (const tag of tags) {
            if ((await putTag(request, owner, stored.row, tag, { tokenId, actor })) === "staged") staged = true;
          }
        } catch (error) {
          // A refused tag leaves nothing behind that was not there before.
          if (stored.added) await records.removeUnpublished(repository, digest);
          throw error;
        }
        return stored.row;
      };
      const row =
        tags.length === 0
          ? await turns.alone(repository, put)
          : await turns.together(repository, () => turns.alone(`${repository}@${digest}`, put));
      return reply
        .code(201)
        .headers({
          location: `/v2/${repository}/manifests/${reference}`,
          "docker-content-digest": digest,
          ...(row.subject === null ? {} : { "oci-subject": row.subject }),
          ...(byDigest && tags.length > 0 ? { "oci-tag": tags } : {}),
          // The specification knows no answer but 201; who cares can see that nobody else sees it yet.
          ...(staged ? { "kernlock-state": "staged" } : {}),
        })
        .send();
    },
  );

  app.delete<{ Params: ManifestParams }>(manifestRoute, async (request, reply) => {
    const { repository, namespace } = repositoryOf(request.params);
    const { actor } = requireAction(request.principal, "publish", repository);
    requireDeletion(await records.namespace(namespace));
    const { reference } = request.params;
    const at = context.now().toISOString();
    const byDigest = reference.includes(":");
    const gone = await turns.alone(repository, () =>
      byDigest
        ? records.deleteManifest(repository, digestParameter(reference), {
            at,
            actor,
            action: "manifest.delete",
            subject: repository,
            details: { digest: reference },
          })
        : records.removeTag(repository, reference, {
            at,
            actor,
            action: "tag.delete",
            subject: `${repository}:${reference}`,
            details: {},
          }),
    );
    if (!gone) return manifestUnknown(repository, reference);
    return reply.code(202).send();
  });

  async function ownerOf(namespace: string): Promise<Namespace> {
    return (
      (await records.namespace(namespace)) ??
      fail("KL_REGISTRY_NAMESPACE_UNKNOWN", `There is no namespace "${namespace}".`, {
        remedy: "Create it with `kernlock registry namespace`.",
      })
    );
  }

  async function putTag(
    request: FastifyRequest,
    owner: Namespace,
    row: ManifestRow,
    tag: string,
    by: { tokenId: string; actor: string },
  ): Promise<"published" | "same" | "staged"> {
    const { repository } = row;
    requireAction(request.principal, "publish", repository);
    if (owner.kind === "kernels") {
      const review = owner.review === "required" ? ({ review: "ask" } as const) : {};
      return publisher.publish({ repository, namespace: owner.name, version: tag, index: row, ...by, ...review });
    }
    const at = context.now().toISOString();
    await records.putTag(repository, tag, row.digest, at, {
      at,
      actor: by.actor,
      action: "tag.put",
      subject: `${repository}:${tag}`,
      details: { digest: row.digest },
    });
    return "published";
  }
}

function checkTag(owner: Namespace, tag: string): void {
  if (owner.kind === "kernels" ? isVersion(tag) : tagPattern.test(tag)) return;
  if (owner.kind === "artifacts") {
    fail("KL_REGISTRY_TAG_INVALID", "The tag is malformed.", {
      remedy: "Use letters, digits, dots, dashes and underscores, at most 128.",
    });
  }
  fail("KL_REGISTRY_VERSION_INVALID", "The tag is not a semantic version.", {
    remedy: "Tags are versions such as 1.4.0, without build metadata; they never move.",
  });
}

function digestMismatch(expected: string, actual: string): never {
  return fail("KL_REGISTRY_DIGEST_MISMATCH", `The manifest has digest ${actual}, not ${expected} as announced.`, {
    remedy: "Send the very bytes the digest was computed from.",
    details: { expected, actual },
  });
}

function manifestUnknown(repository: string, reference: string): never {
  return fail("KL_REGISTRY_MANIFEST_UNKNOWN", "This repository has no such manifest or version.", {
    remedy: "List the versions with `GET /v2/<namespace>/<name>/tags/list`.",
    details: { repository, reference },
  });
}

async function readManifest(source: AsyncIterable<Uint8Array>, contentLength: string | undefined): Promise<Buffer> {
  const tooLarge = () =>
    fail("KL_REGISTRY_MANIFEST_TOO_LARGE", `A manifest may have ${maxManifestBytes} bytes at most.`, {
      remedy: "Put large data into blobs.",
      details: { limit: maxManifestBytes },
    });
  if (Number(contentLength ?? 0) > maxManifestBytes) tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.byteLength;
    if (size > maxManifestBytes) tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
