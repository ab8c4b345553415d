/** What is known to be wrong: all advisories, and the signed feeds that a policy can name. */
import type { Osv } from "@kernlock/policies/trust";
import type { FastifyInstance } from "fastify";
import { createNotices, type FeedDescription } from "../advisories/notices.ts";
import { type Concern, readable } from "../advisories/routes.ts";
import type { Context } from "../context.ts";
import { type Html, html } from "./html.ts";
import { date, digest, link } from "./layout.ts";
import { sendPage } from "./send.ts";

export function advisoryRoutes(app: FastifyInstance, context: Context): void {
  const { records } = context;
  app.get("/advisories", async (request, reply) => {
    const notices = createNotices(records, context.now, "page");
    const all = await readable(records, request.principal, await notices.listAdvisories());
    const body = advisoriesPage(all.reverse(), await notices.listServedFeeds(), context.origin());
    const head = { title: "Advisories · Kernlock", description: "What is known to be wrong with kernels here." };
    return sendPage(context, request, reply, 200, head, body);
  });
}

/** On the pages of a version that advisories are about. */
export function concernBanner(version: string, concerns: readonly Concern[]): Html | null {
  if (concerns.length === 0) return null;
  const many = concerns.length === 1 ? "An advisory is" : `${concerns.length} advisories are`;
  return html`<div class="banner" role="note" aria-label="Advisories"><p><b>${many} about ${version}.</b></p><ul>${concerns.map(
    ({ osv, fixed }) => html`
<li>${advisoryLink(osv)}${osv.summary === undefined ? null : html` ${osv.summary}`}${fixed === null ? null : html`. Fixed in ${fixed}`}</li>`,
  )}
</ul></div>`;
}

export function advisoryLink({ id }: Osv): Html {
  return html`<a href="/advisories#${anchor(id)}">${id}</a>`;
}

const anchor = (id: string): string => `advisory-${id.replaceAll(/[^A-Za-z0-9._-]/g, "-")}`;

function advisoriesPage(all: readonly Osv[], feeds: readonly FeedDescription[], origin: string): Html {
  return html`<header class="title"><h1>Advisories</h1>
<p class="summary">What is known to be wrong with versions of kernels on this registry.</p></header>
<div class="single">
<section aria-labelledby="advisories">
<h2 id="advisories" class="section">Advisories</h2>
${all.length === 0 ? html`<p class="empty">Nothing is known to be wrong.</p>` : all.map(one)}
<p class="hint">As <a href="/api/v1/advisories">OSV records</a>: a policy can read that list as a file.</p>
</section>
<section aria-labelledby="feeds">
<h2 id="feeds" class="section">Signed feeds</h2>
${
  feeds.length === 0
    ? html`<p class="empty">This registry serves none. <code>kernlock registry feed</code> sets one up.</p>`
    : html`<p class="hint">Numbered, signed by their makers and served as they came. A policy that names one refuses what it speaks against, and everything once it is too old.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of feeds"><table>
<thead><tr><th scope="col">Feed</th><th scope="col">Kind</th><th scope="col">Number</th><th scope="col">Issued</th><th scope="col">Signed by</th></tr></thead>
<tbody>${feeds.map(
        (feed) => html`
<tr><th scope="row">${feed.sequence === null ? feed.id : html`<a href="/api/v1/feeds/${feed.id}">${feed.id}</a>`}</th><td>${feed.kind}</td><td class="number">${feed.sequence ?? "–"}</td><td>${feed.issued === null ? "not yet" : date(feed.issued)}</td><td>${feed.signers.map((signer) => html`<span class="line">${digest(signer, "signer")}</span>`)}</td></tr>`,
      )}
</tbody></table></div>
<p class="hint">In <code>kernels.policy.yaml</code>, with the key under <code>keys</code>:</p>
<pre tabindex="0"><code>${feeds
        .slice(0, 1)
        .map(
          ({ id, kind }) =>
            `${kind}:\n  - { id: ${id}, url: "${origin}/api/v1/feeds/${id}", by: [security], maxAgeDays: 7 }`,
        )}</code></pre>`
}
</section>
</div>`;
}

function one(osv: Osv): Html {
  const details = typeof osv.details === "string" ? osv.details.slice(0, 4000) : undefined;
  const addresses = (Array.isArray(osv.references) ? osv.references : [])
    .map((reference: { url?: unknown } | null) => reference?.url)
    .filter((url): url is string => typeof url === "string" && /^https?:\/\//.test(url))
    .slice(0, 20);
  const over = osv.withdrawn !== undefined;
  return html`<article class="advisory" id="${anchor(osv.id)}" aria-label="${osv.id}">
<h3>${osv.id}${over ? html` <span class="same">withdrawn</span>` : null}</h3>
${osv.summary === undefined ? null : html`<p><b>${osv.summary}</b></p>`}
${details === undefined ? null : html`<p>${details}</p>`}
<dl class="facts">
${affected(osv).map(([name, versions]) => html`<dt><a href="/kernels/${name}">${name}</a></dt><dd>${versions}</dd>`)}
<dt>Changed</dt><dd>${date(osv.modified)}</dd>
${over ? html`<dt>Withdrawn</dt><dd>${date(osv.withdrawn!)}</dd>` : null}
${addresses.length === 0 ? null : html`<dt>More</dt><dd>${addresses.map((url) => html`<span class="line">${link(url)}</span>`)}</dd>`}
</dl>
</article>`;
}

/** Packages and, in words, their versions. */
function affected(osv: Osv): [string, string][] {
  return osv.affected.flatMap(({ package: named, versions = [], ranges = [] }): [string, string][] => {
    if (named === undefined || !/^[a-z0-9._-]+\/[a-z0-9._-]+$/.test(named.name)) return [];
    const words = ranges.flatMap(({ events }) =>
      events.flatMap(({ introduced, fixed, last_affected: last }) => [
        ...(introduced === undefined ? [] : [introduced === "0" ? "from the first" : `from ${introduced}`]),
        ...(fixed === undefined ? [] : [`fixed in ${fixed}`]),
        ...(last === undefined ? [] : [`last in ${last}`]),
      ]),
    );
    const text = [...versions.slice(0, 20), ...words].join(", ");
    return [[named.name, text === "" ? "all versions" : text]];
  });
}
