/** Web pages: rendered here, whole without JavaScript, under a policy that allows none. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isPackageName, isVersion } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import semver from "semver";
import { mayRead } from "../access.ts";
import { varying } from "../api/routes.ts";
import type { Context } from "../context.ts";
import type { VersionDocument } from "../publish/documents.ts";
import { searchKernels } from "../search.ts";
import { homePage, searchPage } from "./home.ts";
import { type Html, html } from "./html.ts";
import { kernelPage } from "./kernel.ts";
import { contentSecurityPolicy, page } from "./layout.ts";

const assets = [
  { url: "/assets/style.css", file: "style.css", type: "text/css; charset=utf-8" },
  { url: "/assets/mark.svg", file: "mark.svg", type: "image/svg+xml" },
];

interface Params {
  readonly namespace: string;
  readonly name: string;
  readonly version?: string;
}

export function pageRoutes(app: FastifyInstance, context: Context): void {
  const { catalog } = context;

  for (const { url, file, type } of assets) {
    const content = readFileSync(join(import.meta.dirname, file));
    app.get(url, async (_request, reply) =>
      reply
        .headers({
          "content-type": type,
          "cache-control": "public, max-age=3600",
          "content-security-policy": "default-src 'none'",
        })
        .send(content),
    );
  }

  app.get<{ Querystring: { q?: string | string[] } }>("/", async (request, reply) => {
    const query = [request.query.q ?? ""].flat()[0]!.trim().slice(0, 200);
    const kernels = searchKernels(catalog, query, request.principal);
    const body = query === "" ? homePage(kernels) : searchPage(query, kernels);
    const title = query === "" ? "Kernlock: signed compute kernels" : `${query} · Kernlock`;
    return send(
      request,
      reply,
      200,
      { title, query, home: query === "", description: "A registry of signed compute kernels." },
      body,
    );
  });

  app.get<{ Params: Params }>("/kernels/:namespace/:name", kernel);
  app.get<{ Params: Params }>("/kernels/:namespace/:name/:version", kernel);

  async function kernel(request: FastifyRequest<{ Params: Params }>, reply: FastifyReply) {
    const { namespace, name, version } = request.params;
    const repository = `${namespace}/${name}`;
    const owner = catalog.namespace(namespace);
    const known =
      isPackageName(repository) && mayRead(request.principal, owner) ? catalog.kernel(repository) : undefined;
    const wanted = version ?? known?.latest;
    const row = known && wanted !== undefined && isVersion(wanted) ? catalog.version(repository, wanted) : undefined;
    if (owner === undefined || known === undefined || row === undefined) return notFound(request, reply);
    const versions = catalog.versions(repository).sort((a, b) => semver.rcompare(a.version, b.version));
    const document = JSON.parse(row.document) as VersionDocument;
    const body = kernelPage({
      document,
      card: row.card,
      versions,
      latest: known.latest,
      visibility: owner.visibility,
      origin: context.origin(),
    });
    const title = `${repository} ${document.version} · Kernlock`;
    return send(request, reply, 200, { title, description: document.description }, body);
  }

  // Browsers ask for the token once, as the password of any user, and send it along from then on.
  app.get("/signin", async (request, reply) => {
    if (request.principal.kind === "token") return reply.redirect("/");
    reply.header("www-authenticate", 'Basic realm="Kernlock: any user name, your token as password", charset="UTF-8"');
    const body = html`<h1>Sign in</h1><p>Private kernels are shown to those who have a token of their namespace. Give any user name, and the token as password.</p><p><a href="/">Back</a></p>`;
    return send(request, reply, 401, { title: "Sign in · Kernlock", description: "Sign in with a token." }, body);
  });

  function notFound(request: FastifyRequest, reply: FastifyReply) {
    const body = html`<h1>No such kernel</h1><p>Nothing is published at this address, or it is private. <a href="/">Search</a>, or <a href="/signin">sign in</a> with a token of its namespace.</p>`;
    return send(request, reply, 404, { title: "Not found · Kernlock", description: "Nothing is here." }, body);
  }

  function send(
    request: FastifyRequest,
    reply: FastifyReply,
    status: number,
    frame: { title: string; description: string; query?: string; home?: boolean },
    body: Html,
  ): FastifyReply {
    const { principal } = request;
    return reply
      .code(status)
      .headers({
        ...varying(request),
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": contentSecurityPolicy,
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
      })
      .send(
        page(
          {
            ...frame,
            host: new URL(context.origin()).host,
            reader: principal.kind === "token" ? principal.namespace : "anonymous",
          },
          body,
        ),
      );
  }
}
