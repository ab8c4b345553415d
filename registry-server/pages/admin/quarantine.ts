/** Versions that are yanked or in quarantine, and those that should be. */
import type { ListedVersion } from "../../store/records.ts";
import { type Html, html } from "../html.ts";
import { name } from "../layout.ts";
import { moment } from "./frame.ts";

export type Flagged = ListedVersion & { readonly repository: string };

export function quarantineBody(shown: {
  readonly flagged: readonly Flagged[];
  readonly field: Html | undefined;
  /** What the form begins with. */
  readonly given: { readonly name: string; readonly version: string };
}): Html {
  const { flagged, field, given } = shown;
  return html`${
    field === undefined
      ? html`<p class="hint">Sign in, or use <code>kernlock registry version quarantine</code>.</p>`
      : html`<section aria-labelledby="withhold">
<h2 id="withhold" class="section">Withhold a version</h2>
<p class="hint">In quarantine, nothing of a version is handed out to anybody, by any address. A yanked one is still there for locks that pin it.</p>
<form class="fit" action="/admin/quarantine" method="post">${field}
<label>Kernel <input name="name" required maxlength="200" placeholder="namespace/name" value="${given.name}" autocapitalize="none" spellcheck="false"></label>
<label>Version <input name="version" required maxlength="100" value="${given.version}" spellcheck="false"></label>
<label>State <select name="state"><option value="quarantined">quarantine</option><option value="yanked">yank</option></select></label>
<label>Reason, shown to everybody <input name="reason" required maxlength="1000"></label>
<button type="submit">Withhold</button>
</form>
</section>`
  }
<section aria-labelledby="flagged">
<h2 id="flagged" class="section">Withheld and yanked</h2>
${
  flagged.length === 0
    ? html`<p class="empty">Nothing is withheld.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of versions"><table>
<thead><tr><th scope="col">Version</th><th scope="col">State</th><th scope="col">Reason</th><th scope="col">Since</th>${field === undefined ? null : html`<th scope="col">Change</th>`}</tr></thead>
<tbody>${flagged.map(
        (row) => html`
<tr><th scope="row"><a href="/kernels/${row.repository}/${row.version}">${name(row.repository)} ${row.version}</a></th><td><span class="no">${row.state}</span></td><td class="prose">${row.stateReason ?? "–"}</td><td>${row.stateAt === null ? "–" : moment(row.stateAt)}</td>${
          field === undefined
            ? null
            : html`<td class="action"><form action="/admin/quarantine" method="post">${field}<input type="hidden" name="name" value="${row.repository}"><input type="hidden" name="version" value="${row.version}"><input type="hidden" name="state" value="ok"><button class="quiet" type="submit">Release<span class="hidden"> ${row.repository} ${row.version}</span></button></form></td>`
        }</tr>`,
      )}
</tbody></table></div>`
}
</section>`;
}
