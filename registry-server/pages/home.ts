import type { KernelRow } from "../store/catalog.ts";
import { type Html, html } from "./html.ts";
import { date, searchForm } from "./layout.ts";

export function homePage(kernels: readonly KernelRow[]): Html {
  return html`<section class="hero">
<h1>Compute kernels you can account for</h1>
<p>Every version here is immutable, signed, and published with provenance that was checked on the way in.</p>
${searchForm("", "large")}
</section>
<h2>Recently published</h2>
${kernels.length === 0 ? html`<p class="empty">Nothing is published yet. <code>kernlock publish</code> puts the first kernel here.</p>` : list(kernels)}`;
}

export function searchPage(query: string, kernels: readonly KernelRow[]): Html {
  const count = kernels.length === 1 ? "1 kernel" : `${kernels.length} kernels`;
  return html`<h1 class="results">${count} for “${query}”</h1>
${
  kernels.length === 0
    ? html`<p class="empty">No kernel has all of these words. Try fewer, or the name of an op such as <a href="/?q=attention">attention</a> or a backend such as <a href="/?q=cuda">cuda</a>.</p>`
    : list(kernels)
}`;
}

function list(kernels: readonly KernelRow[]): Html {
  return html`<ul class="kernels">${kernels.map(
    (kernel) => html`
<li><a href="/kernels/${kernel.repository}">
<span class="name">${name(kernel.repository)}</span> <span class="tag">${kernel.latest}</span>
<span class="summary">${kernel.summary}</span>
<span class="facts">${kernel.license} · ${date(kernel.publishedAt)}</span>
</a></li>`,
  )}
</ul>`;
}

/** Package names may break after their slash, nowhere else. */
export function name(repository: string): Html {
  const [namespace, short] = repository.split("/");
  return html`<span class="namespace">${namespace}/</span><wbr>${short}`;
}
