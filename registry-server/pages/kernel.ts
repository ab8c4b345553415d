/** The first page of a version: its variants, whether it fits, its card, how to use it. */
import { fitSection, type Machine } from "./fit.ts";
import { type Html, html, trusted } from "./html.ts";
import { date, digest, here, link } from "./layout.ts";
import { matrixSection } from "./matrix.ts";
import { type Shown, versionPath } from "./subject.ts";
import { useSection } from "./use.ts";

/** `card` was sanitised when it was published. */
export function overviewBody(shown: Shown, card: string, machine: Machine | undefined): Html {
  const { document: kernel } = shown;
  return html`<div class="columns">
<div class="main">
${matrixSection(kernel)}
${fitSection(kernel, versionPath(shown), machine)}
${card.trim() === "" ? null : html`<section class="card" aria-labelledby="card"><h2 id="card" class="section">Card</h2>${trusted(reachable(card))}</section>`}
</div>
<aside aria-label="Use and facts">
${useSection(shown)}
${factSection(shown)}
${versionSection(shown)}
</aside>
</div>`;
}

function factSection({ document: kernel }: Shown): Html {
  const [namespace] = kernel.name.split("/");
  return html`<section aria-labelledby="facts">
<h2 id="facts" class="section">Facts</h2>
<dl class="facts">
<dt>Digest</dt><dd>${digest(kernel.digest, "digest of the index")}</dd>
<dt>Source</dt><dd>${link(kernel.source.repository)}</dd>
<dt>Built by</dt><dd>${kernel.builders.map((b) => html`<code class="revision">${b}</code> `)}</dd>
<dt>Namespace</dt><dd><a href="/namespaces/${namespace}">${namespace}</a></dd>
<dt>Published</dt><dd>${date(kernel.published_at)}</dd>
<dt>Licence</dt><dd>${kernel.license}</dd>
<dt>Document</dt><dd><a href="/api/v1/kernels/${kernel.name}/${kernel.version}">JSON</a></dd>
</dl>
</section>`;
}

const shownVersions = 8;

function versionSection({ document: kernel, versions }: Shown): Html {
  return html`<section aria-labelledby="versions">
<h2 id="versions" class="section">Versions</h2>
<ul class="versions">${versions.slice(0, shownVersions).map(
    (v) => html`
<li><span><a href="/kernels/${kernel.name}/${v.version}"${v.version === kernel.version ? here : null}>${v.version}</a>${v.state === "ok" ? null : html` <span class="no">${v.state}</span>`}</span> ${date(v.publishedAt)}</li>`,
  )}
</ul>
<p class="hint"><a href="/kernels/${kernel.name}/versions">${versions.length > shownVersions ? `All ${versions.length} versions` : "Compare versions"}</a></p>
</section>`;
}

/** What may scroll sideways can be reached with the keyboard. Text of a sanitised card holds no bare `<`, so these are tags. */
function reachable(card: string): string {
  return card
    .replaceAll("<pre>", '<pre tabindex="0">')
    .replaceAll("<table>", '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>')
    .replaceAll("</table>", "</table></div>");
}
