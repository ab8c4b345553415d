/** OCI manifests, tags and referrers. A tag is a version; putting it is publishing. */
import { type Digest, digestOf, fail, isDigest, isVersion, mediaTypes } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import { mayWrite, requireRead, requireWrite } from "../access.ts";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import { storeManifest } from "../publish/store-manifest.ts";
import type { ManifestRow } from "../store/catalog.ts";
import { repositoryOf } from "./names.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly reference: string;
}

const maxManifestBytes = 4 << 20;
const maxTagsPerPage = 1000;

export function manifestRoutes(app: FastifyInstance, context: Context, publisher: Publisher): void {
  const { catalog } = context;
  // One manifest of a repository after the other: evidence that arrives while a version is judged waits for its end.
  const inTurn = turns();

  app.route<{ Params: Params }>({
    method: ["GET", "HEAD"],
    url: "/v2/:namespace/:name/manifests/:reference",
    async handler(request, reply) {
      const { repository, namespace } = repositoryOf(request.params);
      const { visibility } = requireRead(request.principal, catalog.namespace(namespace));
      const { reference } = request.params;
      const byDigest = isDigest(reference);
      const digest = byDigest ? reference : catalog.version(repository, reference)?.digest;
      const row = digest === undefined ? undefined : catalog.manifest(repository, digest);
      // Some clients send what they have only after a 401; they shall find what they pushed.
      if (row?.visible === 0 && request.principal.kind === "anonymous") requireWrite(request.principal, namespace);
      if (row === undefined || (row.visible === 0 && !mayWrite(request.principal, namespace))) {
        return fail("KL_REGISTRY_MANIFEST_UNKNOWN", "This repository has no such manifest or version.", {
          remedy: "List the versions with `GET /v2/<namespace>/<name>/tags/list`.",
          details: { repository, reference },
        });
      }
      reply.headers({
        "content-type": row.mediaType,
        "content-length": row.bytes.byteLength,
        "docker-content-digest": row.digest,
        etag: `"${row.digest}"`,
        "cache-control": byDigest ? `${visibility}, max-age=31536000, immutable` : `${visibility}, max-age=60`,
      });
      if (request.headers["if-none-match"] === `"${row.digest}"`) {
        return reply.code(304).removeHeader("content-length").send();
      }
      return request.method === "HEAD" ? reply.send() : reply.send(row.bytes);
    },
  });

  app.put<{ Params: Params }>("/v2/:namespace/:name/manifests/:reference", async (request, reply) => {
    const { repository, namespace } = repositoryOf(request.params);
    const { tokenId } = requireWrite(request.principal, namespace);
    const { reference } = request.params;
    const tag = reference.includes(":") ? undefined : versionOf(reference);
    const bytes = await readManifest(
      request.raw.iterator({ destroyOnReturn: false }),
      request.headers["content-length"],
    );
    const digest = digestOf(bytes);
    if (tag === undefined && digest !== reference) digestMismatch(reference, digest);
    const mediaType = (request.headers["content-type"] ?? "").split(";")[0]!.trim();
    const row = await inTurn(repository, async () => {
      const stored = await storeManifest(context, { repository, digest, mediaType, bytes });
      try {
        if (tag !== undefined) {
          await publisher.publish({ repository, namespace, version: tag, index: stored.row, tokenId });
        }
      } catch (error) {
        // A refused tag leaves nothing behind that was not there before.
        if (stored.added) catalog.removeManifest(repository, digest);
        throw error;
      }
      return stored.row;
    });
    reply.code(201).headers({
      location: `/v2/${repository}/manifests/${reference}`,
      "docker-content-digest": digest,
      ...(row.subject === null ? {} : { "oci-subject": row.subject }),
    });
    return reply.send();
  });

  app.delete<{ Params: Params }>("/v2/:namespace/:name/manifests/:reference", async (request) => {
    requireWrite(request.principal, repositoryOf(request.params).namespace);
    return fail("KL_REGISTRY_IMMUTABLE", "Versions and manifests cannot be deleted here.", {
      remedy: "Publish a new version; a lock may pin the old one.",
    });
  });

  app.get<{ Params: Params; Querystring: { n?: string; last?: string } }>(
    "/v2/:namespace/:name/tags/list",
    async (request, reply) => {
      const { repository, namespace } = repositoryOf(request.params);
      requireRead(request.principal, catalog.namespace(namespace));
      const { n, last = "" } = request.query;
      if (catalog.kernel(repository) === undefined && !mayWrite(request.principal, namespace)) {
        fail("KL_REGISTRY_KERNEL_UNKNOWN", `There is no kernel ${repository}.`, { remedy: "Search for its name." });
      }
      const limit = n === undefined ? maxTagsPerPage : Math.min(pageSize(n), maxTagsPerPage);
      // One more than asked tells whether there is a next page.
      const found = catalog.tags(repository, last, limit + 1);
      const tags = found.slice(0, limit);
      if (found.length > limit && limit > 0) {
        const next = new URLSearchParams({ n: String(limit), last: tags.at(-1)! });
        reply.header("link", `</v2/${repository}/tags/list?${next}>; rel="next"`);
      }
      return reply.send({ name: repository, tags });
    },
  );

  app.get<{ Params: { namespace: string; name: string; digest: string }; Querystring: { artifactType?: string } }>(
    "/v2/:namespace/:name/referrers/:digest",
    async (request, reply) => {
      const { repository, namespace } = repositoryOf(request.params);
      requireRead(request.principal, catalog.namespace(namespace));
      const { digest } = request.params;
      if (!isDigest(digest)) {
        fail("KL_REGISTRY_DIGEST_INVALID", "The subject is not a sha256 digest.", { remedy: "Ask with a digest." });
      }
      const all = mayWrite(request.principal, namespace);
      const wanted = request.query.artifactType;
      const manifests = catalog
        .referrers(repository, digest)
        .filter((row) => all || row.visible === 1)
        .filter((row) => wanted === undefined || row.artifactType === wanted)
        .map(descriptorOf);
      if (wanted !== undefined) reply.header("oci-filters-applied", "artifactType");
      // A Buffer, since a string would get `; charset=utf-8` appended, and then cosign and oras find nothing.
      return reply
        .header("content-type", mediaTypes.index)
        .send(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests })));
    },
  );
}

/** Runs what has the same key one after the other, in the order of the calls. */
function turns(): <T>(key: string, work: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const before = last.get(key);
    const mine = (before ?? Promise.resolve()).then(work, work);
    last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (last.get(key) === mine) last.delete(key);
    }
  };
}

function descriptorOf(row: ManifestRow): Record<string, unknown> {
  return {
    mediaType: row.mediaType,
    digest: row.digest,
    size: row.bytes.byteLength,
    ...(row.artifactType === null ? {} : { artifactType: row.artifactType }),
    ...(row.annotations === null ? {} : { annotations: JSON.parse(row.annotations) }),
  };
}

function versionOf(tag: string): string {
  if (isVersion(tag)) return tag;
  return fail("KL_REGISTRY_VERSION_INVALID", "The tag is not a semantic version.", {
    remedy: "Tags are versions such as 1.4.0, without build metadata; they never move.",
  });
}

function digestMismatch(reference: string, actual: Digest): never {
  if (!isDigest(reference)) {
    fail("KL_REGISTRY_DIGEST_INVALID", "The reference is neither a version nor a sha256 digest.", {
      remedy: "Put manifests by `sha256:<hex>` or by version.",
    });
  }
  return fail("KL_REGISTRY_DIGEST_MISMATCH", `The manifest has digest ${actual}, not ${reference} as announced.`, {
    remedy: "Send the very bytes the digest was computed from.",
    details: { expected: reference, actual },
  });
}

function pageSize(n: string): number {
  if (/^\d{1,9}$/.test(n)) return Number(n);
  return fail("KL_REGISTRY_BAD_REQUEST", "The page size `n` is not a number.", { remedy: "Give a whole number." });
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
