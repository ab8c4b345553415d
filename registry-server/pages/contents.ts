/** What lies in each variant: files, ops, and what the inspection at the publish found inside the binaries. */
import type { BinaryFacts, VariantDocument } from "../publish/documents.ts";
import { type Html, html } from "./html.ts";
import { bytes, digest } from "./layout.ts";
import type { Shown } from "./subject.ts";

export function contentsBody({ document: kernel }: Shown): Html {
  return html`<div class="single">${kernel.variants.map(
    (v) => html`
<section aria-labelledby="${v.variant}">
<h2 id="${v.variant}" class="variant">${v.variant}</h2>
<p class="hint">${needs(v)}. ABI ${v.abi}, build ${digest(v.abi_build, "ABI build")}</p>
${binaries(v)}
${table(
  "Files",
  v,
  ["File", "Kind", "Size", "Digest"],
  v.files.map(
    (f) =>
      html`<tr><th scope="row"><code>${f.path}</code></th><td>${f.kind}</td><td class="number">${bytes(f.size)}</td><td>${digest(f.digest)}</td></tr>`,
  ),
)}
${table(
  "Ops",
  v,
  ["Op", "Covers", "Mode", "Features"],
  v.ops.map(
    (op) =>
      html`<tr><th scope="row"><code>${op.name}/${op.path}</code></th><td>${list(op.covers)}</td><td>${op.mode}</td><td>${list(op.features)}</td></tr>`,
  ),
)}
</section>`,
  )}</div>`;
}

function binaries(v: VariantDocument): Html {
  if (v.binaries === undefined) {
    return html`<p class="hint">This version was published before inspections were written down; its binaries passed the same checks.</p>`;
  }
  return table(
    "Inside the binaries",
    v,
    ["Binary", "Architectures", "Libraries needed", "Exports", "Takes"],
    v.binaries.map(binary),
  );
}

function binary(facts: BinaryFacts): Html {
  const host = facts.architectures.includes("x86_64");
  const libraries = facts.needed.length > 0 ? list(facts.needed) : host ? "none" : "–";
  const takes = host ? `${facts.imports} functions${facts.libc === null ? "" : `, glibc ${facts.libc}`}` : "–";
  return html`<tr><th scope="row"><code>${facts.path}</code></th><td>${list(facts.architectures)}</td><td>${libraries}</td><td>${facts.exports.length === 0 ? "–" : html`<code>${facts.exports.join(", ")}</code>`}</td><td>${takes}</td></tr>`;
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
    case "cuda":
      return `Needs ${v.backend.architectures.join(" or ")}, a driver for CUDA ${v.backend.driver} and ${libc}`;
  }
}

const list = (items: readonly string[]) => (items.length === 0 ? "–" : items.join(", "));
