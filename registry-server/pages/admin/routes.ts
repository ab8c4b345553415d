/** Pages for those who run a registry or decide for a namespace. What they do, a command does too (`kernlock registry`). */
import { fail, isPackageName, KernlockError } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { may, type Principal, requireAction } from "../../access.ts";
import { createAdmin } from "../../admin.ts";
import type { Context } from "../../context.ts";
import { healthOf } from "../../operations/health.ts";
import { type Collected, collectGarbage } from "../../operations/maintenance.ts";
import type { Publisher } from "../../publish/publish.ts";
import { decide } from "../../review/review.ts";
import { reviewsFor } from "../../review/routes.ts";
import { currentPrincipal, formField, readForm } from "../../sessions/index.ts";
import type { AuditFilter } from "../../store/records.ts";
import { type Html, html } from "../html.ts";
import { sendNotFound, sendPage } from "../send.ts";
import { auditBody, entriesPerPage } from "./audit.ts";
import { type AdminTab, adminFrame, administersSomewhere, decidesSomewhere, done, watchesAll } from "./frame.ts";
import { gcBody, graces } from "./gc.ts";
import { healthBody } from "./health.ts";
import { quarantineBody } from "./quarantine.ts";
import { reviewsBody } from "./reviews.ts";

type Get = FastifyRequest<{ Querystring: Record<string, string | string[] | undefined> }>;

const states = ["ok", "yanked", "quarantined"] as const;
const titles: Readonly<Record<AdminTab, string>> = {
  health: "Health",
  reviews: "Reviews",
  quarantine: "Quarantine",
  gc: "Collection",
  audit: "Audit log",
};

export function adminRoutes(app: FastifyInstance, context: Context, publisher: Publisher): void {
  const { records } = context;

  app.get("/admin", async (request: Get, reply) => {
    const reader = await admitted(request, reply, decidesSomewhere);
    if (reader === undefined) return reply;
    if (!watchesAll(reader)) return reply.redirect("/admin/reviews", 303);
    const body = healthBody(await healthOf(context));
    return send(request, reply, reader, "health", "What this registry holds, and when it was last looked after.", body);
  });

  app.get("/admin/reviews", async (request: Get, reply) => {
    const reader = await admitted(request, reply, decidesSomewhere);
    if (reader === undefined) return reply;
    const field = fieldFor(request, "/admin/reviews");
    const body = reviewsBody({ ...(await reviewsFor(context, reader)), field });
    return send(
      request,
      reply,
      reader,
      "reviews",
      "Versions that somebody else than their publisher has to approve.",
      body,
    );
  });

  app.post("/admin/reviews", async (request, reply) => {
    const form = await readForm(request, context, "/admin/reviews");
    const { repository, version } = versionIn(form);
    const decision = form.get("decision");
    if (decision !== "approve" && decision !== "reject") return malformed();
    const reason = textIn(form, "reason");
    await decide(context, publisher, {
      principal: request.principal,
      repository,
      version,
      decision,
      reason: reason === "" ? null : reason,
    });
    return reply.redirect(`/admin/reviews?done=${decision}`, 303);
  });

  app.get("/admin/quarantine", async (request: Get, reply) => {
    const reader = await admitted(request, reply, decidesSomewhere);
    if (reader === undefined) return reply;
    const flagged = (await records.flaggedVersions("*")).filter((row) => may(reader, "review", row.repository));
    const given = { name: one(request, "name"), version: one(request, "version") };
    const field = administersSomewhere(reader) ? fieldFor(request, "/admin/quarantine") : undefined;
    const body = quarantineBody({ flagged, field, given });
    return send(request, reply, reader, "quarantine", "Versions that nobody, or nobody new, is to get.", body);
  });

  app.post("/admin/quarantine", async (request, reply) => {
    const form = await readForm(request, context, "/admin/quarantine");
    const { repository, version } = versionIn(form);
    const state = states.find((known) => known === form.get("state")) ?? malformed();
    const { actor } = requireAction(request.principal, "administer", repository);
    const reason = textIn(form, "reason");
    const change = { repository, version, state, ...(reason === "" ? {} : { reason }) };
    await createAdmin(records, context.now, actor).setVersionState(change);
    return reply.redirect(`/admin/quarantine?done=${state}`, 303);
  });

  app.get("/admin/gc", async (request: Get, reply) => {
    const reader = await admitted(request, reply, watchesAll);
    if (reader === undefined) return reply;
    const wanted = one(request, "grace");
    const grace = graces.find(({ value }) => value === wanted);
    const found = grace === undefined ? undefined : await dryRun(grace.seconds);
    const body = gcBody(grace ?? graces[1], found);
    return send(request, reply, reader, "gc", "What lies here that nobody needs.", body);
  });

  app.get("/admin/audit", async (request: Get, reply) => {
    const reader = await admitted(request, reply, watchesAll);
    if (reader === undefined) return reply;
    const filter: AuditFilter = {
      actor: one(request, "actor").slice(0, 200),
      action: one(request, "action").slice(0, 100),
      subject: one(request, "subject").slice(0, 300),
    };
    const before = /^\d{1,9}$/.test(one(request, "before")) ? Number(one(request, "before")) : 0;
    const found = await records.auditPage(filter, before, entriesPerPage + 1);
    const body = auditBody({
      rows: found.slice(0, entriesPerPage),
      filter,
      more: found.length > entriesPerPage,
      first: before === 0,
      head: await records.auditHead(),
      checked: one(request, "check") === "1" ? await records.verifyAudit() : undefined,
    });
    return send(request, reply, reader, "audit", "Every change, with who made it.", body);
  });

  async function dryRun(graceSeconds: number): Promise<Collected | "busy"> {
    try {
      const { blobs, now } = context;
      return await collectGarbage({ records, blobs, now }, { dryRun: true, graceSeconds });
    } catch (error) {
      if (error instanceof KernlockError && error.code === "KL_REGISTRY_BUSY") return "busy";
      throw error;
    }
  }

  /** Others are sent to sign in, or find nothing here. */
  async function admitted(
    request: Get,
    reply: FastifyReply,
    may: (principal: Principal) => boolean,
  ): Promise<Principal | undefined> {
    const reader = currentPrincipal(request, context);
    if (reader !== null && may(reader)) return reader;
    if (reader === null) reply.redirect(`/signin?return=${encodeURIComponent(request.url)}`, 303);
    else sendNotFound(context, request, reply);
    return undefined;
  }

  /** Forms are bound to a session; who came with a token alone has none, and uses commands. */
  function fieldFor(request: FastifyRequest, action: string): Html | undefined {
    return request.principal.kind === "person" ? formField(request, action) : undefined;
  }

  function send(request: Get, reply: FastifyReply, reader: Principal, tab: AdminTab, summary: string, body: Html) {
    const head = { title: `${titles[tab]} · Kernlock`, description: summary, secret: true };
    const said = done(one(request, "done"));
    return sendPage(context, request, reply, 200, head, adminFrame(reader, tab, summary, html`${said}${body}`));
  }
}

/** The first value of a parameter. */
function one({ query }: Get, field: string): string {
  return [query[field] ?? ""].flat()[0] ?? "";
}

function versionIn(form: URLSearchParams): { repository: string; version: string } {
  const [repository, version] = [textIn(form, "name"), textIn(form, "version")];
  return isPackageName(repository) && version !== "" ? { repository, version } : malformed();
}

function textIn(form: URLSearchParams, field: string): string {
  return (form.get(field) ?? "").trim().slice(0, 1000);
}

function malformed(): never {
  return fail("KL_REGISTRY_BAD_REQUEST", "The form is not one of this page's.", { remedy: "Send it from the page." });
}
