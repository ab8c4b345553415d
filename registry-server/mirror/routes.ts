/** Where mirrors come in: before a request for one of their names is answered, and when an operator asks about them. */
import { fail, isPackageName, isVersion, parseStrictJson } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { may, type Principal, requireAction, requireRead } from "../access.ts";
import { mirrorRefresh } from "../api/shapes.ts";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import { blobUnknown } from "../oci/blobs.ts";
import { isContentDigest } from "../store/digests.ts";
import type { Outcome } from "./asking.ts";
import type { Subject } from "./fetched.ts";
import { within } from "./flights.ts";
import type { Mirror } from "./mirrors.ts";
import type { Mirrors } from "./service.ts";
import { readVia, viaHeader } from "./via.ts";

interface Params {
  readonly namespace?: string;
  readonly name?: string;
  readonly reference?: string;
  readonly digest?: string;
  readonly version?: string;
}
type Request = FastifyRequest<{ Params: Params; Querystring: Record<string, string | string[] | undefined> }>;

const repositoryRoute = "/v2/:namespace/:name/";
const kernelRoute = "/api/v1/kernels/:namespace/:name";
const maxTagsPerPage = 1000;
/** Less than a connection may be silent. */
const refreshMs = 100_000;

export function mirrorRoutes(app: FastifyInstance, context: Context, mirrors: Mirrors): void {
  const { records } = context;

  app.addHook("preHandler", async (given, reply) => {
    const request = given as Request;
    const { url = "" } = request.routeOptions;
    if (!url.startsWith(repositoryRoute) && !url.startsWith(kernelRoute)) return undefined;
    const { namespace = "", name = "" } = request.params;
    const repository = `${namespace}/${name}`;
    const mirror = isPackageName(repository) ? await mirrors.of(repository) : undefined;
    if (mirror === undefined) return undefined;
    if (request.method === "GET" || request.method === "HEAD") {
      const owner = requireRead(request.principal, await records.namespace(namespace));
      return read(request, reply, url, { repository, owner, mirror });
    }
    return url.startsWith(repositoryRoute) ? write(request, url, repository, mirror) : undefined;
  });

  async function read(request: Request, reply: FastifyReply, url: string, subject: Subject) {
    const via = readVia(request.headers[viaHeader]);
    const { reference = "", digest = "", version = "" } = request.params;
    const kernels = subject.owner.kind === "kernels";
    let outcome: Outcome = "held";
    switch (url) {
      case `${repositoryRoute}manifests/:reference`:
        outcome = await mirrors.manifest(subject, reference, via);
        if (outcome === "absent" && request.principal.kind === "anonymous") return nothing(reference);
        break;
      case `${repositoryRoute}blobs/:digest`:
        if (isContentDigest(digest)) outcome = await mirrors.blob(subject, digest, via);
        if (outcome === "absent" && request.principal.kind === "anonymous") return blobUnknown(digest);
        break;
      case `${repositoryRoute}referrers/:digest`:
        if (isContentDigest(digest)) outcome = await mirrors.referrers(subject, digest, via);
        break;
      case `${repositoryRoute}tags/list`:
        if (!kernels) return listTags(request, reply, subject, via);
        outcome = await mirrors.versions(subject, via);
        break;
      case kernelRoute:
        if (kernels) outcome = await mirrors.versions(subject, via);
        break;
      case `${kernelRoute}/:version`:
        if (kernels && isVersion(version)) outcome = await mirrors.manifest(subject, version, via);
        break;
    }
    if (outcome === "stale") reply.header("kernlock-mirror", "stale");
    return undefined;
  }

  /** What the upstream has, and what is held besides. */
  async function listTags(request: Request, reply: FastifyReply, subject: Subject, via: readonly string[]) {
    const { repository } = subject;
    const { outcome, tags: theirs } = await mirrors.tags(subject, via);
    const { n, last = "" } = request.query;
    const number = typeof n === "string" && /^\d{1,9}$/.test(n) ? Number(n) : maxTagsPerPage;
    const limit = Math.min(number, maxTagsPerPage);
    const after = [last].flat()[0] ?? "";
    const held = await records.movingTags(repository, after, limit + 1);
    const all = [...new Set([...held, ...theirs.filter((tag) => tag > after)])].sort();
    if (all.length === 0 && theirs.length === 0 && !(await records.hasRepository(repository))) return undefined;
    const tags = all.slice(0, limit);
    if (outcome === "stale") reply.header("kernlock-mirror", "stale");
    if (all.length > limit && limit > 0) {
      const next = new URLSearchParams({ n: String(limit), last: tags.at(-1)! });
      reply.header("link", `</v2/${repository}/tags/list?${next}>; rel="next"`);
    }
    return reply.send({ name: repository, tags });
  }

  /** Signed statements about what is mirrored are welcome; anything else under these names is the upstream's. */
  async function write(request: Request, url: string, repository: string, mirror: Mirror): Promise<undefined> {
    if (request.method === "DELETE") return undefined;
    requireAction(request.principal, "attest", repository);
    const { reference = "" } = request.params;
    const tags = request.query.tag !== undefined || !reference.includes(":");
    if (url === `${repositoryRoute}manifests/:reference` && tags) {
      fail("KL_MIRROR_NAME", `${repository} is mirrored, so nothing is published under this name here.`, {
        remedy: "Publish it upstream, or under another name.",
        details: { pattern: mirror.pattern },
      });
    }
    const { principal } = request;
    if (principal.kind === "token") request.principal = { ...principal, role: "auditor" };
    return undefined;
  }

  app.get("/api/v1/mirrors", async (request, reply) => {
    const { principal } = request;
    if (principal.kind === "anonymous") {
      return fail("KL_REGISTRY_UNAUTHORIZED", "Mirrors are shown to admins.", { remedy: "Log in." });
    }
    const shown = (await mirrors.all()).filter(({ namespace }) => may(principal, "administer", namespace));
    const list = await Promise.all(
      shown.map(async (mirror) => ({
        ...mirrorDocument(mirror),
        packages: await records.mirroredRepositories(mirror.id),
        ...healthDocument(mirror),
      })),
    );
    return reply.header("cache-control", "no-store").send({ mirrors: list });
  });

  app.post<{ Params: { id: string } }>("/api/v1/mirrors/:id/refresh", async (request, reply) => {
    const mirror = (await mirrors.all()).find(({ id }) => id === request.params.id);
    if (mirror === undefined) return unknown(request.principal);
    requireAction(request.principal, "administer", mirror.namespace);
    const wanted = mirrorRefresh.safeParse(
      parseStrictJson(await readBody(request.raw, 16_384), { what: "The request" }),
    );
    if (!wanted.success) {
      return fail("KL_REGISTRY_BAD_REQUEST", "The request is not `name` and `version`.", {
        remedy: 'Send {} for all packages, {"name":"acme/norm"}, or {"name":"acme/norm","version":"1.2.0"}.',
      });
    }
    const { name, version } = wanted.data;
    if (name !== undefined && (await mirrors.of(name))?.id !== mirror.id) {
      return fail("KL_MIRROR_UNKNOWN", `${name} is none of the names of this mirror.`, {
        remedy: `Its names are ${mirror.pattern}.`,
      });
    }
    const only = name === undefined ? undefined : { repository: name, ...(version === undefined ? {} : { version }) };
    const found = await within(refreshMs, mirrors.refresh(mirror, only));
    if (found === undefined) {
      return fail("KL_MIRROR_FETCHING", "It is still being fetched from the upstream.", {
        remedy: "Ask again in a while; the fetch goes on.",
        details: { retry_after: 30 },
      });
    }
    return reply.header("cache-control", "no-store").send(found);
  });

  function healthDocument(mirror: Mirror) {
    const { askedAt, ok, code, pausedUntil } = mirrors.health(mirror);
    return { asked_at: askedAt, ok, code, paused_until: pausedUntil };
  }

  function unknown(principal: Principal): never {
    if (principal.kind === "anonymous") fail("KL_REGISTRY_UNAUTHORIZED", "This needs a token.", { remedy: "Log in." });
    return fail("KL_MIRROR_UNKNOWN", "There is no such mirror.", { remedy: "List them with `GET /api/v1/mirrors`." });
  }
}

/** No token would change that, so no challenge asks for one. */
function nothing(reference: string): never {
  return fail("KL_REGISTRY_MANIFEST_UNKNOWN", "Neither this repository nor its upstream has such a manifest.", {
    remedy: "Check its name.",
    details: { reference },
  });
}

/** Where credentials lie is nobody's business but the operator's. */
export function mirrorDocument({ id, pattern, origin, prefix, settings, createdAt }: Mirror) {
  return {
    id,
    pattern,
    origin,
    prefix,
    credentials: settings.credentials !== null,
    hosts: settings.hosts,
    private_addresses: settings.privateAddresses,
    cool_down_days: settings.coolDownDays,
    fresh_seconds: settings.freshSeconds,
    created_at: createdAt,
  };
}
