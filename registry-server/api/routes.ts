/** The JSON API: what the command line and other programs read. Documents of a version are sent as they were stored. */
import { createHash } from "node:crypto";
import { fail, isPackageName, parseStrictJson } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import semver from "semver";
import { may, type Principal, readerOf, requireAction, requireRead } from "../access.ts";
import { createAdmin } from "../admin.ts";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import { quarantined } from "../oci/names.ts";
import { findVersion, listVersions } from "../review/states.ts";
import { findKernels } from "../search.ts";
import type { KernelRow, ListedVersion } from "../store/records.ts";
import { openApiDocument } from "./openapi.ts";
import { stateChange } from "./shapes.ts";

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly version: string;
}

const maxAuditPage = 1000;

export function apiRoutes(app: FastifyInstance, context: Context): void {
  const { records } = context;
  const openApi = JSON.stringify(openApiDocument());

  app.get("/api/openapi.json", async (_request, reply) =>
    reply
      .headers({ "content-type": "application/json; charset=utf-8", "cache-control": "public, max-age=300" })
      .send(openApi),
  );

  app.get<{ Querystring: { q?: string | string[] } }>("/api/v1/search", async (request, reply) => {
    const query = [request.query.q ?? ""].flat()[0]!.slice(0, 200);
    const kernels = (await findKernels(records, query, request.principal)).map(kernelDocument);
    return reply.headers(varying(request)).send({ query, kernels });
  });

  app.get<{ Params: Params }>("/api/v1/kernels/:namespace/:name", async (request, reply) => {
    const { namespace, name } = request.params;
    const repository = `${namespace}/${name}`;
    requireRead(request.principal, await records.namespace(namespace));
    const listed = isPackageName(repository) ? await listVersions(records, request.principal, repository) : [];
    const kernel = listed.length === 0 ? undefined : await records.kernel(repository);
    if (listed.length === 0) {
      return fail("KL_REGISTRY_KERNEL_UNKNOWN", "There is no such kernel.", { remedy: "Search for its name." });
    }
    const versions = listed.sort((a, b) => semver.rcompare(a.version, b.version)).map(listedDocument);
    // One of which nothing is published yet, as its members see it.
    const about = kernel === undefined ? { name: repository, latest: null } : kernelDocument(kernel);
    return reply.headers(varying(request)).send({ ...about, versions });
  });

  app.get<{ Params: Params }>("/api/v1/kernels/:namespace/:name/:version", async (request, reply) => {
    const { namespace, name, version } = request.params;
    requireRead(request.principal, await records.namespace(namespace));
    const known = await findVersion(records, request.principal, `${namespace}/${name}`, version);
    if (known === undefined) return versionUnknown();
    if (known.withheld) quarantined(`${namespace}/${name} ${version}`);
    const row = known.found;
    const document =
      row.state === "ok" ? row.document : JSON.stringify({ ...JSON.parse(row.document), ...stateDocument(row) });
    reply.headers({ ...varying(request), "content-type": "application/json; charset=utf-8" });
    return sendTagged(request, reply, document);
  });

  // Yank, quarantine, and taking either back.
  app.put<{ Params: Params }>("/api/v1/kernels/:namespace/:name/:version/state", async (request, reply) => {
    const { namespace, name, version } = request.params;
    const repository = `${namespace}/${name}`;
    const body = parseStrictJson(await readBody(request.raw, 16_384), { what: "The request" });
    const wanted = stateChange.safeParse(body);
    if (!wanted.success) {
      return fail("KL_REGISTRY_BAD_REQUEST", "The request is not `state` and `reason`.", {
        remedy: 'Send {"state":"yanked","reason":"…"}.',
      });
    }
    const { state, reason } = wanted.data;
    const current = isPackageName(repository) ? await records.version(repository, version) : undefined;
    const gentle = state !== "quarantined" && current?.state !== "quarantined";
    const { actor } = requireAction(request.principal, gentle ? "yank" : "administer", repository);
    if (current === undefined) return versionUnknown();
    const change = { repository, version, state, ...(reason === undefined ? {} : { reason }) };
    await createAdmin(records, context.now, actor).setVersionState(change);
    return reply.send({ name: repository, version, state, reason: reason ?? null });
  });

  // What holders of a lock should hear of.
  app.get("/api/v1/revocations", async (request, reply) => {
    const { principal } = request;
    const rows = await records.flaggedVersions(readerOf(principal));
    const revocations = rows.map((row) => ({ name: row.repository, ...listedDocument(row) }));
    return reply.headers(varying(request)).send({ revocations });
  });

  app.get<{ Querystring: { after?: string; limit?: string } }>("/api/v1/audit", async (request, reply) => {
    requireWholeRegistry(request.principal);
    const after = Number(request.query.after ?? 0);
    const limit = Math.min(Number(request.query.limit ?? 100), maxAuditPage);
    if (!Number.isInteger(after) || !Number.isInteger(limit) || after < 0 || limit < 1) {
      return fail("KL_REGISTRY_BAD_REQUEST", "`after` and `limit` are whole numbers.", {
        remedy: "Begin with after=0.",
      });
    }
    const entries = (await records.auditAfter(after, limit)).map((row) => ({
      ...row,
      details: JSON.parse(row.details),
    }));
    return reply.header("cache-control", "no-store").send({ head: await records.auditHead(), entries });
  });
}

/** Admins and auditors of all namespaces. */
export function requireWholeRegistry(principal: Principal): void {
  if (may(principal, "review", "*")) return;
  if (principal.kind === "anonymous") {
    fail("KL_REGISTRY_UNAUTHORIZED", "This needs a token of the registry's operators.", { remedy: "Log in." });
  }
  fail("KL_REGISTRY_TOKEN_SCOPE", "This needs an admin's or auditor's token for all namespaces.", {
    remedy: "Make one with `kernlock registry token create --namespace '*' --role auditor`.",
  });
}

function versionUnknown(): never {
  return fail("KL_REGISTRY_VERSION_UNKNOWN", "There is no such version.", {
    remedy: "List the versions with `GET /api/v1/kernels/<namespace>/<name>`.",
  });
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

function listedDocument(row: ListedVersion) {
  const { version, digest, publishedAt } = row;
  return { version, digest, published_at: publishedAt, ...(row.state === "ok" ? {} : stateDocument(row)) };
}

function stateDocument(row: Pick<ListedVersion, "state" | "stateReason" | "stateAt">) {
  return { state: row.state, state_reason: row.stateReason, state_at: row.stateAt };
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
