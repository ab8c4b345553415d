/** What a collection would free. Nothing is removed from a page. */
import type { Collected } from "../../operations/maintenance.ts";
import { type Html, html, trusted } from "../html.ts";
import { bytes, counted, digest } from "../layout.ts";

export const graces = [
  { value: "1h", label: "1 hour", seconds: 3600 },
  { value: "24h", label: "24 hours", seconds: 24 * 3600 },
  { value: "7d", label: "7 days", seconds: 7 * 24 * 3600 },
] as const;

const mostShown = 100;

/** `busy`: another collection, check or backup is running. */
export function gcBody(grace: (typeof graces)[number], found: Collected | "busy" | undefined): Html {
  return html`<section aria-labelledby="dry">
<h2 id="dry" class="section">Dry run</h2>
<p class="hint">Bytes that no version and no tag needs, and that nobody touched for a while, go with the next collection: <code>kernlock registry gc</code>, or <code>serve --gc-every</code>. Here is what it would take.</p>
<form class="fit" action="/admin/gc" method="get">
<label>Untouched for <select name="grace">${graces.map(({ value, label }) => html`<option value="${value}"${value === grace.value ? trusted(" selected") : null}>${label}</option>`)}</select></label>
<button type="submit">Try</button>
</form>
${found === undefined ? null : outcome(found)}
</section>`;
}

function outcome(found: Collected | "busy"): Html {
  if (found === "busy") {
    return html`<p class="notice" role="status">Another collection, check or backup is running. Try again when it is done.</p>`;
  }
  const { manifests, links, blobs } = found;
  if (manifests + links + blobs.length === 0) return html`<p class="empty" role="status">Nothing would be removed.</p>`;
  return html`<p role="status"><b>${bytes(found.bytes)}</b> would be freed: ${counted(blobs.length, "blob")}, ${counted(manifests, "manifest")}, and ${counted(links, "name")} of blobs in a repository.</p>
${
  blobs.length === 0
    ? null
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Blobs that would be removed"><table>
<thead><tr><th scope="col">Blob</th></tr></thead>
<tbody>${blobs.slice(0, mostShown).map((one) => html`<tr><th scope="row">${digest(one)}</th></tr>`)}</tbody>
</table></div>
${blobs.length > mostShown ? html`<p class="hint">The first ${mostShown} of ${blobs.length}; <code>kernlock registry gc --dry-run --json</code> lists all.</p>` : null}`
}`;
}
