/** Advisories, revocations and signed feeds over HTTP. */
import { createHash } from "node:crypto";
import { fail, isPackageName, parseStrictJson } from "@kernlock/kernels/format";
import { isAffected, type Osv } from "@kernlock/policies/trust";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { actorOf, mayRead, type Principal, readerOf, requireAction } from "../access.ts";
import { varying } from "../api/routes.ts";
import { feedKeys, newFeed } from "../api/shapes.ts";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import type { Records } from "../store/records.ts";
import { createNotices, type FiledRevocation, maxAdvisoryBytes, maxFeedBytes, noFeed, packagesOf } from "./notices.ts";

interface ById {
  readonly Params: { readonly id: string };
}

export function noticeRoutes(app: FastifyInstance, context: Context): void {
  const { records } = context;
  const notices = ({ principal }: FastifyRequest) =>
    createNotices(
      records,
      context.now,
      actorOf(principal),
      (packages) => {
        for (const name of packages) requireAction(principal, "advise", name);
      },
      readerOf(principal),
    );

  // A plain list, as `kernlock policy feed` and unsigned feeds take it.
  app.get<{ Querystring: { package?: string | string[] } }>("/api/v1/advisories", async (request, reply) => {
    const [name] = [request.query.package ?? []].flat();
    const all =
      name === undefined
        ? await notices(request).listAdvisories()
        : (await records.advisoriesOf(name)).map(({ body }) => JSON.parse(body) as Osv);
    return reply.headers(varying(request)).send(await readable(records, request.principal, all));
  });

  app.put<ById>("/api/v1/advisories/:id", async (request, reply) => {
    // Before its body is looked at: who has no token at all need not send one.
    if (request.principal.kind === "anonymous") requireAction(request.principal, "advise", "*");
    return reply.send(await notices(request).fileAdvisory(await readBody(request.raw, maxAdvisoryBytes)));
  });

  app.post<ById>("/api/v1/advisories/:id/withdraw", async (request, reply) => {
    if (request.principal.kind === "anonymous") requireAction(request.principal, "advise", "*");
    return reply.send(await notices(request).withdrawAdvisory(request.params.id));
  });

  // What the next number of a feed of revocations is to say.
  app.get("/api/v1/revocations/entries", async (request, reply) =>
    reply.headers(varying(request)).send(await notices(request).revocationEntries()),
  );

  app.get("/api/v1/revocations/filed", async (request, reply) => {
    const revocations = (await notices(request).listRevocations()).map(filedDocument);
    return reply.headers(varying(request)).send({ revocations });
  });

  app.post("/api/v1/revocations/filed", async (request, reply) => {
    requireAction(request.principal, "advise", "*");
    const body = parseStrictJson(await readBody(request.raw, 65_536), { what: "The revocation" });
    return reply.send(filedDocument(await notices(request).fileRevocation(body)));
  });

  app.post<ById>("/api/v1/revocations/filed/:id/withdraw", async (request, reply) =>
    reply.send(filedDocument(await notices(request).withdrawRevocation(request.params.id))),
  );

  app.get("/api/v1/feeds", async (request, reply) => {
    const feeds = (await notices(request).listServedFeeds()).map(({ createdAt, uploadedAt, ...feed }) => ({
      ...feed,
      created_at: createdAt,
      uploaded_at: uploadedAt,
      url: `${context.origin()}/api/v1/feeds/${feed.id}`,
    }));
    return reply.headers(varying(request)).send({ feeds });
  });

  // Byte for byte what was signed, to everybody: a client asks without a token.
  app.get<ById>("/api/v1/feeds/:id", async (request, reply) => {
    const bundle = (await records.feedBundle(request.params.id)) ?? noFeed(request.params.id);
    const etag = `"${createHash("sha256").update(bundle).digest("base64url").slice(0, 27)}"`;
    reply.headers({
      etag,
      "cache-control": "public, max-age=60, must-revalidate",
      "content-type": "application/vnd.dev.sigstore.bundle.v0.3+json",
    });
    return request.headers["if-none-match"] === etag ? reply.code(304).send() : reply.send(bundle);
  });

  app.put<ById>("/api/v1/feeds/:id", async (request, reply) => {
    requireAction(request.principal, "advise", "*");
    const { id } = request.params;
    const feed = await notices(request).putServedFeed(id, await readBody(request.raw, maxFeedBytes));
    return reply.send({ id, kind: feed.kind, sequence: feed.sequence, issued: feed.issued });
  });

  app.post("/api/v1/feeds", async (request, reply) => {
    requireAction(request.principal, "administer", "*");
    const wanted = newFeed.safeParse(parseStrictJson(await readBody(request.raw, 65_536), { what: "The feed" }));
    if (!wanted.success) {
      return fail("KL_REGISTRY_BAD_REQUEST", "The request is not `id`, `kind` and `keys`.", {
        remedy: 'Send {"id":"acme","kind":"advisories","keys":["-----BEGIN PUBLIC KEY-----…"]}.',
      });
    }
    const feed = await notices(request).serveFeed(wanted.data);
    return reply.code(201).send({ id: feed.id, kind: feed.kind, signers: feed.signers });
  });

  app.put<ById>("/api/v1/feeds/:id/keys", async (request, reply) => {
    requireAction(request.principal, "administer", "*");
    const wanted = feedKeys.safeParse(parseStrictJson(await readBody(request.raw, 65_536), { what: "The keys" }));
    if (!wanted.success) {
      return fail("KL_REGISTRY_BAD_REQUEST", "The request is not `keys`.", { remedy: "Send a list of public keys." });
    }
    const feed = await notices(request).setFeedKeys(request.params.id, wanted.data.keys);
    return reply.send({ id: feed.id, kind: feed.kind, signers: feed.signers });
  });
}

/** A record that names a package of a private namespace is for those who may read that namespace. */
export async function readable(records: Records, principal: Principal, all: readonly Osv[]): Promise<Osv[]> {
  const open = new Map<string, boolean>();
  for (const name of all.flatMap(packagesOf)) {
    const [namespace = ""] = name.split("/");
    if (open.has(namespace)) continue;
    const found = await records.namespace(namespace);
    open.set(namespace, found === undefined || mayRead(principal, found));
  }
  return all.filter((osv) => packagesOf(osv).every((name) => open.get(name.split("/")[0] ?? "") === true));
}

/** What concerns one version, or `undefined`: any of them. */
export interface Concern {
  readonly osv: Osv;
  /** Lowest newer version that is named as safe. */
  readonly fixed: string | null;
}

export async function advisoriesAbout(
  records: Records,
  principal: Principal,
  repository: string,
): Promise<(version: string) => Concern[]> {
  const rows = isPackageName(repository) ? await records.advisoriesOf(repository) : [];
  const all = await readable(
    records,
    principal,
    rows.map(({ body }) => JSON.parse(body) as Osv),
  );
  return (version) =>
    all.flatMap((osv) => {
      const hit = isAffected(osv, repository, version);
      return hit === null ? [] : [{ osv, fixed: hit.fixed }];
    });
}

function filedDocument({ id, entry, filedAt, filedBy, withdrawnAt }: FiledRevocation) {
  return { id, entry, filed_at: filedAt, filed_by: filedBy, withdrawn_at: withdrawnAt };
}
