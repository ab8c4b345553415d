import type { KernelRow } from "../store/records.ts";
import { type Chosen, facetNav, type Hit, narrowed } from "./facets.ts";
import { type Html, html } from "./html.ts";
import { date, name, searchForm } from "./layout.ts";

const mostShown = 50;

export function homePage(hits: readonly Hit[]): Html {
  return html`<section class="hero">
<h1>Compute kernels you can account for</h1>
<p>Every version here is immutable, signed, and published with provenance that was checked on the way in.</p>
${searchForm("", "large")}
</section>
${
  hits.length === 0
    ? html`<h2>Recently published</h2><p class="empty">Nothing is published yet. <code>kernlock publish</code> puts the first kernel here.</p>`
    : html`<div class="browse">${facetNav(hits, "", {})}<div><h2 class="first">Recently published</h2>${kernelList(hits)}</div></div>`
}`;
}

export function searchPage(query: string, hits: readonly Hit[], chosen: Chosen): Html {
  const found = narrowed(hits, chosen);
  const count = found.length === 1 ? "1 kernel" : `${found.length} kernels`;
  return html`<h1 class="results">${count}${query === "" ? null : html` for “${query}”`}</h1>
${
  hits.length === 0
    ? html`<p class="empty">No kernel has all of these words. Try fewer, or the name of an op such as <a href="/?q=attention">attention</a> or a backend such as <a href="/?q=cuda">cuda</a>.</p>`
    : html`<div class="browse">${facetNav(hits, query, chosen)}<div>${
        found.length === 0
          ? html`<p class="empty">No kernel fits all of the chosen filters. Take one back.</p>`
          : kernelList(found)
      }${found.length > mostShown ? html`<p class="hint">The first ${mostShown} are shown; narrow the search to see others.</p>` : null}</div></div>`
}`;
}

export function kernelList(hits: readonly (Hit | { readonly kernel: KernelRow; readonly facets?: undefined })[]): Html {
  return html`<ul class="kernels">${hits.slice(0, mostShown).map(
    ({ kernel, facets }) => html`
<li><a href="/kernels/${kernel.repository}">
<span class="name">${name(kernel.repository)}</span> <span class="tag">${kernel.latest}</span>
<span class="summary">${kernel.summary}</span>
${facets === undefined ? null : html`<span class="chips">${facets.architecture.map((one) => html`<span class="chip">${one}</span> `)}</span>`}
<span class="facts">${kernel.license} · ${date(kernel.publishedAt)}</span>
</a></li>`,
  )}
</ul>`;
}
