/** What lies in each variant: what the inspection at the publish found inside the binaries, ops, parts, files, licence. */
import type { BinaryFacts, VariantDocument } from "../publish/documents.ts";
import { type Bill, billSection } from "./bill.ts";
import { type Html, html } from "./html.ts";
import { bytes, counted, digest } from "./layout.ts";
import { type Shown, versionPath } from "./subject.ts";

/** Kinds of files that people read; others are taken by a client. */
export const readable: readonly string[] = ["sbom", "license", "card"];

export interface Inside {
  readonly bills: ReadonlyMap<string, Bill>;
  /** Texts of licence files, by digest. */
  readonly licenses: ReadonlyMap<string, string>;
}

export function contentsBody(shown: Shown, inside: Inside): Html {
  const { document: kernel } = shown;
  const download = (file: string) => `${versionPath(shown)}/files/${file}`;
  return html`<div class="single">
${
  kernel.variants.length < 2
    ? null
    : html`<nav class="jump" aria-label="Variants"><ul>${kernel.variants.map((v) => html`<li><a href="#${v.variant}">${v.variant}</a></li>`)}</ul></nav>`
}
${kernel.variants.map(
  (v) => html`
<section class="variant" aria-labelledby="${v.variant}">
<h2 id="${v.variant}" class="variant">${v.variant}</h2>
<p class="hint">${needs(v)}. ABI ${v.abi}, build ${digest(v.abi_build, "ABI build")}</p>
${binaries(v)}
${table(
  "Ops",
  v,
  ["Op", "Covers", "Mode", "Features"],
  v.ops.map(
    (op) =>
      html`<tr><th scope="row"><code>${op.name}/${op.path}</code></th><td class="prose">${list(op.covers)}</td><td>${op.mode}</td><td class="prose">${list(op.features)}</td></tr>`,
  ),
)}
${billSection(v, inside.bills, download)}
${table(
  "Files",
  v,
  ["File", "Kind", "Size", "Digest"],
  v.files.map(
    (f) =>
      html`<tr><th scope="row">${readable.includes(f.kind) ? html`<a href="${download(f.digest)}" download><code>${f.path}</code></a>` : html`<code>${f.path}</code>`}</th><td>${f.kind}</td><td class="number">${bytes(f.size)}</td><td>${digest(f.digest)}</td></tr>`,
  ),
)}
${licence(kernel.license, v, inside)}
</section>`,
)}</div>`;
}

function licence(spdx: string, v: VariantDocument, { licenses }: Inside): Html {
  const files = v.files.filter((f) => f.kind === "license" && licenses.has(f.digest));
  return html`<h3 class="section">Licence</h3>
<p class="hint"><b>${spdx}</b>${files.length === 0 ? ", by its name alone: this variant brings no text of it." : null}</p>
${files.map(
  (f) =>
    html`<details><summary>${f.path}</summary><pre tabindex="0"><code>${licenses.get(f.digest)}</code></pre></details>`,
)}`;
}

function binaries(v: VariantDocument): Html {
  if (v.binaries === undefined) {
    return html`<p class="hint">This version was published before inspections were written down; its binaries passed the same checks.</p>`;
  }
  return html`${table(
    "Inside the binaries",
    v,
    ["Binary", "Code for", "Libraries needed", "Exports", "Takes from them"],
    v.binaries.map(binary),
  )}
${v.binaries.filter((facts) => (facts.takes ?? []).length > 0).map(symbols)}`;
}

function binary(facts: BinaryFacts): Html {
  const host = facts.architectures.includes("x86_64");
  const libraries = facts.needed.length > 0 ? list(facts.needed) : host ? "none" : "–";
  const takes = host
    ? `${facts.imports === 0 ? "nothing" : counted(facts.imports, "function")}${facts.libc === null ? "" : `, glibc ${facts.libc}`}`
    : "–";
  return html`<tr><th scope="row"><code>${facts.path}</code></th><td>${list(facts.architectures)}</td><td>${libraries}</td><td>${facts.exports.length === 0 ? "–" : html`<code>${facts.exports.join(", ")}</code>`}</td><td>${takes}</td></tr>`;
}

/** Names that the loader binds: everything the code can call outside of itself. */
function symbols({ path, takes = [], imports }: BinaryFacts): Html {
  const more = imports > takes.length ? html` and ${imports - takes.length} more` : null;
  return html`<details><summary>Symbols that <code>${path}</code> takes (${imports})</summary>
<p class="symbols">${takes.map((name) => html`<code>${name}</code> `)}${more}</p></details>`;
}

function table(caption: string, v: VariantDocument, heads: readonly string[], rows: readonly Html[]): Html {
  return html`<h3 class="section">${caption}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="${caption} of ${v.variant}">
<table>
<thead><tr>${heads.map((head) => html`<th scope="col"${head === "Size" ? html` class="number"` : null}>${head}</th>`)}</tr></thead>
<tbody>${rows}</tbody>
</table>
</div>`;
}

function needs(v: VariantDocument): string {
  const libc = `${v.platform.libc.family} ${v.platform.libc.minimum}`;
  switch (v.backend.kind) {
    case "cpu":
      return `Needs a CPU of level ${v.backend.level} and ${libc}`;
    case "cuda": {
      const { architectures, ptx } = v.backend;
      const compiled = ptx.map((target) => `a GPU for PTX of ${target}`);
      return `Needs ${(architectures.length > 0 ? architectures : compiled).join(" or ")}, a driver for CUDA ${v.backend.driver} and ${libc}`;
    }
  }
}

const list = (items: readonly string[]) => (items.length === 0 ? "–" : items.join(", "));
