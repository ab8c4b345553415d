/** The audit log, newest first. */
import type { AuditFilter, AuditHead, AuditRow } from "../../store/records.ts";
import { type Html, html } from "../html.ts";
import { digest } from "../layout.ts";
import { moment } from "./frame.ts";

export const entriesPerPage = 50;

export function auditBody(shown: {
  readonly rows: readonly AuditRow[];
  readonly filter: AuditFilter;
  /** Whether there are older ones. */
  readonly more: boolean;
  readonly first: boolean;
  readonly head: AuditHead;
  /** Undefined: the chain was not checked just now. */
  readonly checked: { readonly broken: number | null } | undefined;
}): Html {
  const { rows, filter, more, first, head, checked } = shown;
  const address = (change: Record<string, string>) => {
    const given = Object.entries({ ...filter, ...change }).filter(([, value]) => value !== "");
    return `/admin/audit${given.length === 0 ? "" : `?${new URLSearchParams(given)}`}`;
  };
  return html`<section aria-labelledby="chain">
<h2 id="chain" class="section">Head of the chain</h2>
<p>Entry ${head.seq}: ${digest(head.hash, "hash of the newest entry")}</p>
<p class="hint">Each entry's hash covers the entry and the hash before it. Write number and hash down elsewhere, and no earlier entry can be changed unnoticed. ${
    checked === undefined
      ? html`<a href="${address({ check: "1" })}">Check the whole chain</a>`
      : checked.broken === null
        ? html`<span role="status">The whole chain was checked just now: <span class="yes">sound</span></span>`
        : html`<span role="status">The whole chain was checked just now: <span class="no">broken at entry ${checked.broken}</span></span>`
  }</p>
</section>
<section aria-labelledby="entries">
<h2 id="entries" class="section">Entries</h2>
<form class="fit" action="/admin/audit" method="get" role="search" aria-label="Filter entries">
<label>Who <input name="actor" value="${filter.actor}" maxlength="200" placeholder="local:ada" spellcheck="false"></label>
<label>Action <input name="action" value="${filter.action}" maxlength="100" placeholder="version." spellcheck="false"></label>
<label>About <input name="subject" value="${filter.subject}" maxlength="300" placeholder="acme/norm" spellcheck="false"></label>
<button type="submit">Filter</button>
</form>
<p class="hint">Each field is how it begins.</p>
${
  rows.length === 0
    ? html`<p class="empty">No entry fits. <a href="/admin/audit">All entries</a></p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of entries"><table>
<thead><tr><th scope="col">Entry</th><th scope="col">When (UTC)</th><th scope="col">Who</th><th scope="col">Action</th><th scope="col">About</th><th scope="col">Details</th></tr></thead>
<tbody>${rows.map(
        (row) => html`
<tr><th scope="row">${row.seq}</th><td>${moment(row.at)}</td><td><a href="${address({ actor: row.actor })}"><code>${row.actor}</code></a></td><td>${row.action}</td><td><code>${row.subject}</code></td><td class="prose">${row.details === "{}" ? "–" : html`<code>${shortened(row.details)}</code>`}</td></tr>`,
      )}
</tbody></table></div>`
}
${
  first && !more
    ? null
    : html`<nav class="pager" aria-label="More entries">${first ? null : html`<a href="${address({})}">Newest</a>`}${more ? html`<a href="${address({ before: String(rows.at(-1)!.seq) })}">Older</a>` : null}</nav>`
}
</section>`;
}

const shortened = (text: string): string => (text.length <= 300 ? text : `${text.slice(0, 300)}…`);
