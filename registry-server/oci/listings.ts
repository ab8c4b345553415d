/** What hangs on a repository (tags) and on a manifest (referrers). */
import { fail, mediaTypes } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import { requireRead, seesUnpublished } from "../access.ts";
import type { Context } from "../context.ts";
import type { ManifestRow } from "../store/records.ts";
import { digestParameter, quarantined, repositoryOf } from "./names.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
}

const maxTagsPerPage = 1000;

export function listingRoutes(app: FastifyInstance, context: Context): void {
  const { records } = context;

  app.get<{ Params: Params; Querystring: { n?: string; last?: string } }>(
    "/v2/:namespace/:name/tags/list",
    async (request, reply) => {
      const { repository, namespace } = repositoryOf(request.params);
      const owner = requireRead(request.principal, await records.namespace(namespace));
      const { n, last = "" } = request.query;
      const kernels = owner.kind === "kernels";
      const known =
        seesUnpublished(request.principal, repository) ||
        (kernels ? (await records.kernel(repository)) !== undefined : await records.hasRepository(repository));
      if (!known) {
        fail("KL_REGISTRY_KERNEL_UNKNOWN", `There is no ${repository}.`, { remedy: "Search for its name." });
      }
      const limit = n === undefined ? maxTagsPerPage : Math.min(pageSize(n), maxTagsPerPage);
      // One more than asked tells whether there is a next page.
      const page = kernels ? records.versionTags : records.movingTags;
      const found = await page(repository, last, limit + 1);
      const tags = found.slice(0, limit);
      if (found.length > limit && limit > 0) {
        const next = new URLSearchParams({ n: String(limit), last: tags.at(-1)! });
        reply.header("link", `</v2/${repository}/tags/list?${next}>; rel="next"`);
      }
      return reply.send({ name: repository, tags });
    },
  );

  app.get<{ Params: Params & { digest: string }; Querystring: { artifactType?: string } }>(
    "/v2/:namespace/:name/referrers/:digest",
    async (request, reply) => {
      const { repository, namespace } = repositoryOf(request.params);
      requireRead(request.principal, await records.namespace(namespace));
      const digest = digestParameter(request.params.digest);
      if ((await records.manifest(repository, digest))?.visible === -1) quarantined(`${repository} ${digest}`);
      const all = seesUnpublished(request.principal, repository);
      const wanted = request.query.artifactType;
      const manifests = (await records.referrers(repository, digest))
        .filter((row) => row.visible === 1 || (all && row.visible === 0))
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

function descriptorOf(row: ManifestRow): Record<string, unknown> {
  return {
    mediaType: row.mediaType,
    digest: row.digest,
    size: row.bytes.byteLength,
    ...(row.artifactType === null ? {} : { artifactType: row.artifactType }),
    ...(row.annotations === null ? {} : { annotations: JSON.parse(row.annotations) }),
  };
}

function pageSize(n: string): number {
  if (/^\d{1,9}$/.test(n)) return Number(n);
  return fail("KL_REGISTRY_BAD_REQUEST", "The page size `n` is not a number.", { remedy: "Give a whole number." });
}
