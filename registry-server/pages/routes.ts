/** Web pages: rendered here, whole without JavaScript, under a policy that allows none. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Principal } from "../access.ts";
import { advisoriesAbout } from "../advisories/routes.ts";
import { varying } from "../api/routes.ts";
import type { Context } from "../context.ts";
import type { VersionDocument } from "../publish/documents.ts";
import { findKernels } from "../search.ts";
import { isContentDigest } from "../store/digests.ts";
import { billsOf } from "./bill.ts";
import { comparePage } from "./compare.ts";
import { contentsBody, readable } from "./contents.ts";
import { attestationsOf, evidenceBody } from "./evidence.ts";
import { chosenOf } from "./facets.ts";
import { machineOf } from "./fit.ts";
import { homePage, searchPage } from "./home.ts";
import type { Html } from "./html.ts";
import { overviewBody } from "./kernel.ts";
import { createLookup, type FoundKernel, type KernelParams, policyOf } from "./lookup.ts";
import { provenanceBody } from "./provenance.ts";
import { type PageHead, sendNotFound, sendPage } from "./send.ts";
import { quarantinePage, type Shown, subjectPage, type Tab } from "./subject.ts";
import { versionsPage, versionsPerPage } from "./versions.ts";

const folder = import.meta.dirname;
/** One sheet, light and dark by what the reader's system says; its parts count in the order of their names. */
const styles = readdirSync(join(folder, "styles"))
  .sort()
  .map((name) => readFileSync(join(folder, "styles", name), "utf8"))
  .join("\n");
const assets = [
  { url: "/assets/style.css", content: styles, type: "text/css; charset=utf-8" },
  { url: "/assets/mark.svg", content: readFileSync(join(folder, "mark.svg"), "utf8"), type: "image/svg+xml" },
];

const maxLicenceBytes = 128 * 1024;
/** So many matches are looked at for the filters. */
const maxHits = 200;

type Get<P = unknown> = FastifyRequest<{ Params: P; Querystring: Record<string, string | string[] | undefined> }>;
type VersionParams = KernelParams & { readonly version?: string };

export function pageRoutes(app: FastifyInstance, context: Context): void {
  const { records } = context;
  const lookup = createLookup(context);

  for (const { url, content, type } of assets) {
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

  app.get("/", async (request: Get, reply) => {
    const given = single(request.query);
    const query = (given.q ?? "").trim().slice(0, 200);
    const chosen = chosenOf(given);
    const hits = await lookup.withFacets(await findKernels(records, query, request.principal, maxHits));
    const home = query === "" && Object.keys(chosen).length === 0;
    const body = home ? homePage(hits) : searchPage(query, hits, chosen);
    const title = home ? "Kernlock: signed compute kernels" : `${query || Object.values(chosen).join(", ")} · Kernlock`;
    return send(
      request,
      reply,
      200,
      { title, query, home, description: "A registry of signed compute kernels." },
      body,
    );
  });

  app.get("/kernels/:namespace/:name/versions", async (request: Get<KernelParams>, reply) => {
    const found = await lookup.kernel(request.principal, request.params);
    if (found === undefined) return notFound(request, reply);
    const { repository, latest } = found.kernel;
    const page = Math.max(1, Math.min(9999, Number.parseInt(single(request.query).page ?? "1", 10) || 1));
    const about = await advisoriesAbout(records, request.principal, repository);
    const listed = found.versions.slice((page - 1) * versionsPerPage, page * versionsPerPage);
    const lines = await Promise.all(
      listed.map(async (line) => {
        const document = await lookup.document(found, line.version);
        const since = document === undefined ? undefined : await lookup.changesSince(found, document);
        const concerns = about(line.version);
        return { ...line, before: since?.before, changes: since?.list ?? [], concerns };
      }),
    );
    const body = versionsPage({ kernel: repository, lines, all: found.versions, page, latest });
    const title = `Versions of ${repository} · Kernlock`;
    return send(request, reply, 200, { title, description: `All versions of ${repository}.` }, body);
  });

  app.get("/kernels/:namespace/:name/compare", async (request: Get<KernelParams>, reply) => {
    const found = await lookup.kernel(request.principal, request.params);
    const { from, to } = single(request.query);
    if (found === undefined || from === undefined || to === undefined) return notFound(request, reply);
    const { repository } = found.kernel;
    const [before, after] = [await lookup.document(found, from), await lookup.document(found, to)];
    if (before === undefined || after === undefined) return notFound(request, reply);
    const title = `${repository}: ${from} to ${to} · Kernlock`;
    const description = `What changed in ${repository} from ${from} to ${to}.`;
    return send(request, reply, 200, { title, description }, comparePage(before, after, found.versions));
  });

  // The signed statement as it was pushed, for whoever verifies without this registry.
  app.get(
    "/kernels/:namespace/:name/:version/bundles/:digest",
    async (request: Get<Required<VersionParams> & { digest: string }>, reply) => {
      const { digest, version } = request.params;
      const found = await lookup.kernel(request.principal, request.params);
      const shown = found === undefined ? undefined : await show(request.principal, found, version);
      if (shown?.document === undefined || !isContentDigest(digest)) return notFound(request, reply);
      const { name, statements } = shown.document;
      const known =
        statements.some((s) => s.bundle.digest === digest) ||
        (await attestationsOf(context, shown, policyOf(found!.owner))).some((a) => a.bundle === digest);
      const visible = (await records.blob(name, digest))?.visible;
      const open = visible === 1 || (visible === 0 && shown.state === "staged");
      if (!known || !open) return notFound(request, reply);
      const file = `${name.replace("/", "-")}-${version}-${digest.slice(7, 19)}.sigstore.json`;
      return reply
        .headers({
          ...varying(request),
          vary: "authorization, cookie",
          "content-type": "application/vnd.dev.sigstore.bundle.v0.3+json",
          "content-disposition": `attachment; filename="${file}"`,
          "content-security-policy": "default-src 'none'; sandbox",
          "cross-origin-resource-policy": "same-origin",
        })
        .send(await context.blobs.readAll(digest));
    },
  );

  // What people read of a version: its bill of materials, its licence, its card.
  app.get(
    "/kernels/:namespace/:name/:version/files/:digest",
    async (request: Get<Required<VersionParams> & { digest: string }>, reply) => {
      const { digest, version } = request.params;
      const found = await lookup.kernel(request.principal, request.params);
      const shown = found === undefined ? undefined : await show(request.principal, found, version);
      const file = shown?.document?.variants
        .flatMap((v) => v.files)
        .find((one) => one.digest === digest && readable.includes(one.kind));
      if (shown?.document === undefined || file === undefined) return notFound(request, reply);
      const name = `${shown.document.name.replace("/", "-")}-${version}-${file.path.replaceAll(/[^\w.-]/g, "-")}`;
      return reply
        .headers({
          ...varying(request),
          vary: "authorization, cookie",
          "content-type": "application/octet-stream",
          "content-disposition": `attachment; filename="${name}"`,
          "content-security-policy": "default-src 'none'; sandbox",
          "cross-origin-resource-policy": "same-origin",
        })
        .send(await context.blobs.readAll(file.digest));
    },
  );

  async function insideOf({ document: { variants } }: Shown) {
    const licenses = new Map<string, string>();
    for (const { kind, digest, size } of variants.flatMap((v) => v.files)) {
      if (kind !== "license" || size > maxLicenceBytes || licenses.has(digest)) continue;
      licenses.set(digest, Buffer.from(await context.blobs.readAll(digest)).toString("utf8"));
    }
    return { bills: await billsOf(context, variants), licenses };
  }

  const overview = version("overview", (shown, { card, request }) =>
    overviewBody(shown, card, machineOf(single(request.query))),
  );
  app.get("/kernels/:namespace/:name", overview);
  app.get("/kernels/:namespace/:name/:version", overview);
  app.get(
    "/kernels/:namespace/:name/:version/contents",
    version("contents", async (shown) => contentsBody(shown, await insideOf(shown))),
  );
  app.get(
    "/kernels/:namespace/:name/:version/provenance",
    version("provenance", async (shown, { found }) =>
      provenanceBody(shown, policyOf(found.owner), await lookup.changesSince(found, shown.document)),
    ),
  );
  app.get(
    "/kernels/:namespace/:name/:version/evidence",
    version("evidence", async (shown, { found }) => {
      const policy = policyOf(found.owner);
      return evidenceBody(shown, policy, await attestationsOf(context, shown, policy));
    }),
  );

  interface Around {
    readonly request: Get<VersionParams>;
    readonly found: FoundKernel;
    readonly card: string;
  }

  /** A page of one version, of the latest where the address names none. */
  function version(tab: Tab, render: (shown: Shown, around: Around) => Html | Promise<Html>) {
    return async (request: Get<VersionParams>, reply: FastifyReply) => {
      const found = await lookup.kernel(request.principal, request.params);
      const wanted = request.params.version ?? found?.kernel.latest;
      const shown =
        found === undefined || wanted === undefined ? undefined : await show(request.principal, found, wanted);
      if (found === undefined || shown === undefined) return notFound(request, reply);
      const title = `${found.kernel.repository} ${wanted} · Kernlock`;
      if (shown.document === undefined) {
        const body = quarantinePage({ ...shown, document: { name: found.kernel.repository, version: wanted! } });
        return send(request, reply, 404, { title, description: "This version is in quarantine." }, body);
      }
      const body = subjectPage(shown, tab, await render(shown, { request, found, card: shown.card }));
      return send(request, reply, 200, { title, description: shown.document.description }, body);
    };
  }

  async function show(principal: Principal, found: FoundKernel, wanted: string) {
    const known = await found.version(wanted);
    if (known === undefined) return undefined;
    const row = known.found;
    const { owner, kernel, versions } = found;
    const { state, stateReason, stateAt, card } = row;
    const about = { state, stateReason, stateAt, card, versions, latest: kernel.latest };
    const { withheld } = known;
    const concerns = (await advisoriesAbout(records, principal, kernel.repository))(wanted);
    const frame = { ...about, concerns, visibility: owner.visibility, origin: context.origin() };
    return withheld
      ? { ...frame, document: undefined }
      : { ...frame, document: JSON.parse(row.document) as VersionDocument };
  }

  function notFound(request: FastifyRequest, reply: FastifyReply) {
    return sendNotFound(context, request, reply);
  }

  function send(request: FastifyRequest, reply: FastifyReply, status: number, head: PageHead, body: Html) {
    return sendPage(context, request, reply, status, head, body);
  }
}

/** The first value of each parameter. */
function single(query: Record<string, string | string[] | undefined>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(query).map(([key, value]) => [key, [value].flat()[0]]));
}
