/** The JSON API: what the command line and other programs read. Documents of a version are sent as they were stored. */
import { createHash } from "node:crypto";
import { fail, isPackageName, isVersion } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import semver from "semver";
import { requireRead } from "../access.ts";
import type { Context } from "../context.ts";
import { searchKernels } from "../search.ts";
import type { KernelRow } from "../store/catalog.ts";

export function apiRoutes(app: FastifyInstance, context: Context): void {
  const { catalog } = context;

  app.get<{ Querystring: { q?: string | string[] } }>("/api/v1/search", async (request, reply) => {
    const query = [request.query.q ?? ""].flat()[0]!.slice(0, 200);
    const kernels = searchKernels(catalog, query, request.principal).map(kernelDocument);
    return reply.headers(varying(request)).send({ query, kernels });
  });

  app.get<{ Params: { namespace: string; name: string } }>(
    "/api/v1/kernels/:namespace/:name",
    async (request, reply) => {
      const { namespace, name } = request.params;
      const repository = `${namespace}/${name}`;
      requireRead(request.principal, catalog.namespace(namespace));
      const kernel = isPackageName(repository) ? catalog.kernel(repository) : undefined;
      if (kernel === undefined) {
        return fail("KL_REGISTRY_KERNEL_UNKNOWN", "There is no such kernel.", { remedy: "Search for its name." });
      }
      const versions = catalog
        .versions(repository)
        .sort((a, b) => semver.rcompare(a.version, b.version))
        .map(({ version, digest, publishedAt }) => ({ version, digest, published_at: publishedAt }));
      return reply.headers(varying(request)).send({ ...kernelDocument(kernel), versions });
    },
  );

  app.get<{ Params: { namespace: string; name: string; version: string } }>(
    "/api/v1/kernels/:namespace/:name/:version",
    async (request, reply) => {
      const { namespace, name, version } = request.params;
      requireRead(request.principal, catalog.namespace(namespace));
      const row = isVersion(version) ? catalog.version(`${namespace}/${name}`, version) : undefined;
      if (row === undefined) {
        return fail("KL_REGISTRY_VERSION_UNKNOWN", "There is no such version.", {
          remedy: "List the versions with `GET /api/v1/kernels/<namespace>/<name>`.",
        });
      }
      reply.headers({ ...varying(request), "content-type": "application/json; charset=utf-8" });
      return sendTagged(request, reply, row.document);
    },
  );
}

function kernelDocument(row: KernelRow): Record<string, string> {
  return {
    name: row.repository,
    latest: row.latest,
    description: row.summary,
    license: row.license,
    published_at: row.publishedAt,
  };
}

/** Answers depend on the reader: shared caches may keep only what anybody may see. */
export function varying(request: FastifyRequest): Record<string, string> {
  const shared = request.principal.kind === "anonymous" ? "public" : "private";
  return { "cache-control": `${shared}, max-age=0, must-revalidate`, vary: "authorization" };
}

function sendTagged(request: FastifyRequest, reply: FastifyReply, text: string): FastifyReply {
  const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 27)}"`;
  reply.header("etag", etag);
  return request.headers["if-none-match"] === etag ? reply.code(304).send() : reply.send(text);
}
