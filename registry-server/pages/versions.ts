/** All versions of a kernel, with their states and with a mark where trust changed hands. */

import type { Concern } from "../advisories/routes.ts";
import type { TrustChange } from "../publish/trust-changes.ts";
import { standings } from "../review/states.ts";
import type { ListedVersion } from "../store/records.ts";
import { advisoryLink } from "./advisories.ts";
import { type Html, html, trusted } from "./html.ts";
import { counted, date, digest, name } from "./layout.ts";

export const versionsPerPage = 50;

export interface VersionLine extends ListedVersion {
  /** Against the next lower version that is not quarantined. */
  readonly changes: readonly TrustChange[];
  readonly before: string | undefined;
  /** Advisories about it. */
  readonly concerns: readonly Concern[];
}

export function versionsPage(shown: {
  readonly kernel: string;
  readonly lines: readonly VersionLine[];
  /** All of them, highest first. */
  readonly all: readonly ListedVersion[];
  readonly page: number;
  readonly latest: string;
}): Html {
  const { kernel, lines, all, page, latest } = shown;
  const pages = Math.ceil(all.length / versionsPerPage);
  return html`<article class="kernel">
<header class="title"><h1>Versions of <a href="/kernels/${kernel}">${name(kernel)}</a></h1>
<p class="summary">${counted(all.length, "version")}, none of which ever changes.</p></header>
${compareForm(kernel, all)}
<div class="scroll" tabindex="0" role="region" aria-label="Versions">
<table>
<thead><tr><th scope="col">Version</th><th scope="col">State</th><th scope="col">Trust</th><th scope="col">Published</th><th scope="col">Digest</th><th scope="col">Difference</th></tr></thead>
<tbody>${lines.map(
    (line) => html`
<tr><th scope="row"><a href="/kernels/${kernel}/${line.version}">${line.version}</a></th><td class="prose">${state(line, latest)}${line.concerns.map(({ osv }) => html` <span class="no">${advisoryLink(osv)}</span>`)}</td><td class="prose">${trust(line)}</td><td>${date(line.publishedAt)}</td><td>${digest(line.digest)}</td><td>${
      line.before === undefined || standings[line.state].opens === "nobody"
        ? "–"
        : html`<a href="/kernels/${kernel}/compare?from=${line.before}&amp;to=${line.version}">from ${line.before}</a>`
    }</td></tr>`,
  )}
</tbody>
</table>
</div>
${
  pages > 1
    ? html`<nav class="pager" aria-label="More versions">${page > 1 ? html`<a href="?page=${page - 1}">Newer</a>` : null}<span>Page ${page} of ${pages}</span>${page < pages ? html`<a href="?page=${page + 1}">Older</a>` : null}</nav>`
    : null
}
</article>`;
}

function state(line: VersionLine, latest: string): Html {
  const why = line.stateReason === null ? null : html` ${line.stateReason}`;
  switch (line.state) {
    case "yanked":
      return html`<span class="no">yanked</span>${why}`;
    case "quarantined":
      return html`<span class="no">quarantined</span>${why}`;
    case "staged":
      return html`<span class="maybe">waits for review</span>`;
    case "rejected":
      return html`<span class="no">rejected</span>${why}`;
    case "ok":
      return line.version === latest ? html`<span class="yes">latest</span>` : html`offered`;
  }
}

function trust(line: VersionLine): Html {
  if (standings[line.state].opens === "nobody") return html`–`;
  if (line.before === undefined) return html`no earlier one`;
  return line.changes.length === 0
    ? html`as ${line.before}`
    : html`<span class="maybe">new ${line.changes.map(({ what }) => what).join(", ")}</span>`;
}

/** Nothing when there are no two versions to choose; what is in quarantine is not compared. */
export function compareForm(kernel: string, all: readonly ListedVersion[], from?: string, to?: string): Html | null {
  const versions = all.filter((v) => standings[v.state].opens !== "nobody").map((v) => v.version);
  if (versions.length < 2) return null;
  const options = (current: string) =>
    versions.map((version) => html`<option${version === current ? trusted(" selected") : null}>${version}</option>`);
  return html`<form class="fit" action="/kernels/${kernel}/compare" method="get">
<label>From <select name="from">${options(from ?? versions[1]!)}</select></label>
<label>To <select name="to">${options(to ?? versions[0]!)}</select></label>
<button type="submit">Compare</button>
</form>`;
}
