/** What waits for a second person. */
import type { Review } from "../../review/routes.ts";
import { type Html, html } from "../html.ts";
import { name } from "../layout.ts";
import { moment } from "./frame.ts";

export function reviewsBody(shown: {
  readonly waiting: readonly Review[];
  readonly decided: readonly Review[];
  /** Hidden field of the forms, for who came with a session. */
  readonly field: Html | undefined;
}): Html {
  const { waiting, decided, field } = shown;
  return html`<section aria-labelledby="waiting">
<h2 id="waiting" class="section">Waiting</h2>
${
  waiting.length === 0
    ? html`<p class="empty">Nothing waits. Versions come here where a namespace asks for a review (<code>kernlock registry namespace set --review required</code>).</p>`
    : html`<p class="hint">Whoever published a version cannot approve it. An approval judges it once more, by the policy and the evidence of that moment.</p>
${waiting.map((review) => waitingOne(review, field))}`
}
</section>
${
  decided.length === 0
    ? null
    : html`<section aria-labelledby="decided">
<h2 id="decided" class="section">Decided</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Table of decisions"><table>
<thead><tr><th scope="col">Version</th><th scope="col">Decision</th><th scope="col">When</th><th scope="col">By</th><th scope="col">Published by</th></tr></thead>
<tbody>${decided.map(
        ({ row }) => html`
<tr><th scope="row">${link(row.repository, row.version, row.state === "approved")}</th><td class="prose">${row.state === "approved" ? html`<span class="yes">approved</span>` : html`<span class="no">rejected</span>`}${row.reason === null ? null : html` ${row.reason}`}</td><td>${row.decidedAt === null ? "–" : moment(row.decidedAt)}</td><td><code>${row.decidedBy}</code></td><td><code>${row.askedBy}</code></td></tr>`,
      )}
</tbody></table></div>
</section>`
}`;
}

function waitingOne({ row, approvable }: Review, field: Html | undefined): Html {
  const id = `${row.repository}@${row.version}`;
  const named = html`<input type="hidden" name="name" value="${row.repository}"><input type="hidden" name="version" value="${row.version}">`;
  const what = html`<span class="hidden"> ${id}</span>`;
  return html`<article class="decision" aria-label="${id}">
<h3>${link(row.repository, row.version, true)}</h3>
<p class="hint">Published by <code>${row.askedBy}</code> on ${moment(row.askedAt)}. <a href="/kernels/${row.repository}/${row.version}/provenance">Provenance</a> <a href="/kernels/${row.repository}/${row.version}/contents">Contents</a> <a href="/kernels/${row.repository}/versions">Versions</a></p>
${
  field === undefined
    ? html`<p class="hint">Sign in, or decide with <code>kernlock registry review</code>.</p>`
    : html`${approvable ? null : html`<p class="hint">You cannot approve this one: you published it, or do not decide for its namespace.</p>`}
<div class="choices">${
        approvable
          ? html`<form action="/admin/reviews" method="post">${field}${named}<input type="hidden" name="decision" value="approve"><button class="button" type="submit">Approve${what}</button></form>`
          : null
      }
<form class="reject" action="/admin/reviews" method="post">${field}${named}<input type="hidden" name="decision" value="reject"><label>Why not <input name="reason" required maxlength="1000"></label><button class="quiet" type="submit">Reject${what}</button></form></div>`
}
</article>`;
}

function link(repository: string, version: string, open: boolean): Html {
  const text = html`${name(repository)} <span class="tag">${version}</span>`;
  return open ? html`<a href="/kernels/${repository}/${version}">${text}</a>` : text;
}
