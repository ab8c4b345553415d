import type { Requirement } from "@kernlock/policies/trust";
import type { VariantDocument, VersionDocument } from "../publish/documents.ts";
import { name } from "./home.ts";
import { type Html, html, trusted } from "./html.ts";
import { bytes, date, digest, link } from "./layout.ts";

export interface KernelPage {
  readonly document: VersionDocument;
  /** Sanitised when it was published. */
  readonly card: string;
  /** Highest first. */
  readonly versions: readonly { readonly version: string; readonly publishedAt: string }[];
  readonly latest: string;
  readonly visibility: "public" | "private";
  readonly origin: string;
}

export function kernelPage(shown: KernelPage): Html {
  const { document: kernel, card, latest } = shown;
  return html`<article class="kernel">
<header class="title">
<h1>${name(kernel.name)} <span class="tag">${kernel.version}</span></h1>
<p class="summary">${kernel.description}</p>
<ul class="marks">
<li class="mark good">Signed</li>
<li class="mark good">Provenance checked</li>
<li class="mark">${kernel.variants.length === 1 ? "1 variant" : `${kernel.variants.length} variants`}</li>
<li class="mark">${kernel.license}</li>
${shown.visibility === "private" ? html`<li class="mark">Private</li>` : null}
</ul>
${
  kernel.version === latest
    ? null
    : html`<p class="notice">The latest release is <a href="/kernels/${kernel.name}">${latest}</a>.</p>`
}
</header>
<div class="columns">
<div class="main">
${variantSection(kernel)}
${provenanceSection(kernel)}
${card.trim() === "" ? null : html`<section class="card" aria-labelledby="card"><h2 id="card" class="section">Card</h2>${trusted(card)}</section>`}
</div>
<aside aria-label="Use and facts">
${useSection(shown)}
${factSection(kernel)}
${versionSection(shown)}
</aside>
</div>
</article>`;
}

function variantSection(kernel: VersionDocument): Html {
  return html`<section aria-labelledby="variants">
<h2 id="variants" class="section">Variants</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="variants">
<table>
<thead><tr><th scope="col">Variant</th><th scope="col">Needs</th><th scope="col">Ops</th><th scope="col" class="number">Size</th><th scope="col">Manifest</th></tr></thead>
<tbody>${kernel.variants.map(
    (v) => html`
<tr><th scope="row"><a href="#${v.variant}">${v.variant}</a></th><td>${needs(v)}</td><td>${v.ops.length}</td><td class="number">${bytes(sum(v.files.map((f) => f.size)))}</td><td>${digest(v.manifest.digest)}</td></tr>`,
  )}
</tbody>
</table>
</div>
${kernel.variants.map((v) => variantDetails(v, kernel.variants.length === 1))}
</section>`;
}

function variantDetails(v: VariantDocument, open: boolean): Html {
  return html`<details id="${v.variant}"${open ? trusted(" open") : null}>
<summary>Files and ops of <b>${v.variant}</b></summary>
<div class="scroll" tabindex="0" role="region" aria-label="Files of ${v.variant}">
<table>
<thead><tr><th scope="col">File</th><th scope="col">Kind</th><th scope="col" class="number">Size</th><th scope="col">Digest</th></tr></thead>
<tbody>${v.files.map(
    (f) => html`
<tr><th scope="row"><code>${f.path}</code></th><td>${f.kind}</td><td class="number">${bytes(f.size)}</td><td>${digest(f.digest)}</td></tr>`,
  )}
</tbody>
</table>
</div>
<div class="scroll" tabindex="0" role="region" aria-label="Ops of ${v.variant}">
<table>
<thead><tr><th scope="col">Op</th><th scope="col">Covers</th><th scope="col">Mode</th><th scope="col">Features</th></tr></thead>
<tbody>${v.ops.map(
    (op) => html`
<tr><th scope="row"><code>${op.name}/${op.path}</code></th><td>${list(op.covers)}</td><td>${op.mode}</td><td>${list(op.features)}</td></tr>`,
  )}
</tbody>
</table>
</div>
</details>`;
}

function provenanceSection(kernel: VersionDocument): Html {
  return html`<section aria-labelledby="provenance">
<h2 id="provenance" class="section">Provenance</h2>
<dl class="facts">
<dt>Signed by</dt><dd>${kernel.signers.map((s) => digest(s, "key fingerprint"))}</dd>
<dt>Built by</dt><dd>${kernel.builders.map((b) => html`<code>${b}</code> `)}</dd>
<dt>From source</dt><dd>${link(kernel.source.repository)}<br><code class="revision">@ ${kernel.source.revision}</code></dd>
<dt>Statements</dt><dd>${kernel.statements.map(
    (s) =>
      html`<span class="statement">${s.scope === "index" ? "whole version" : s.variant} ${digest(s.payload, "digest of the statement")}</span>`,
  )}</dd>
</dl>
<details>
<summary>Why the registry accepted it</summary>
<ul class="verdict">${requirement(kernel.verdict)}</ul>
</details>
</section>`;
}

function requirement(node: Requirement): Html {
  return html`<li><span class="${node.ok ? "yes" : "no"}">${node.ok ? "met" : "not met"}</span> ${node.requirement}${
    node.children.length === 0 ? null : html`<ul>${node.children.map(requirement)}</ul>`
  }</li>`;
}

function useSection({ document: kernel, origin, visibility }: KernelPage): Html {
  const [variant] = kernel.variants;
  const file = variant?.files.find((f) => f.kind === "shared-object" || f.kind === "device-image");
  const authorization = visibility === "private" ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return html`<section aria-labelledby="use">
<h2 id="use" class="section">Use it</h2>
<p class="hint">In <code>kernels.json</code>:</p>
<pre><code>{
  "version": 1,
  "registry": "${origin}",
  "variants": ["${variant?.variant}"],
  "kernels": {
    "${kernel.name}": "^${kernel.version}"
  }
}</code></pre>
<pre class="command"><code>kernlock lock
kernlock fetch</code></pre>
<p class="hint"><code>kernels.lock</code> then pins:</p>
<pre><code>"${kernel.name}": {
  "version": "${kernel.version}",
  "index": {
    "digest": "${kernel.digest}",
    "size": ${kernel.size}
  },
  "signers": ["${kernel.signers.join('", "')}"],
  …
}</code></pre>
<details>
<summary>Pull it without Kernlock</summary>
<pre><code>curl -sf${authorization} \\
  ${origin}/v2/${kernel.name}/manifests/${kernel.digest}${
    file === undefined
      ? null
      : html`

curl -sfO${authorization} \\
  ${origin}/v2/${kernel.name}/blobs/${file.digest}
sha256sum ${file.digest.slice("sha256:".length)}`
  }</code></pre>
<p class="hint">Any OCI client works too:</p>
<pre><code>skopeo copy --all \\
  docker://${new URL(origin).host}/${kernel.name}:${kernel.version} \\
  oci:${kernel.name.split("/")[1]}:${kernel.version}</code></pre>
</details>
</section>`;
}

function factSection(kernel: VersionDocument): Html {
  return html`<section aria-labelledby="facts">
<h2 id="facts" class="section">Facts</h2>
<dl class="facts">
<dt>Digest</dt><dd>${digest(kernel.digest, "digest of the index")}</dd>
<dt>Published</dt><dd>${date(kernel.published_at)}</dd>
<dt>Licence</dt><dd>${kernel.license}</dd>
<dt>Document</dt><dd><a href="/api/v1/kernels/${kernel.name}/${kernel.version}">JSON</a></dd>
</dl>
</section>`;
}

function versionSection({ document: kernel, versions }: KernelPage): Html {
  return html`<section aria-labelledby="versions">
<h2 id="versions" class="section">Versions</h2>
<ul class="versions">${versions.map(
    (v) => html`
<li><a href="/kernels/${kernel.name}/${v.version}"${v.version === kernel.version ? trusted(' aria-current="page"') : null}>${v.version}</a> ${date(v.publishedAt)}</li>`,
  )}
</ul>
</section>`;
}

function needs(v: VariantDocument): string {
  const libc = `${v.platform.libc.family} ${v.platform.libc.minimum}`;
  switch (v.backend.kind) {
    case "cpu":
      return `${v.backend.level}, ${libc}`;
    case "cuda":
      return `${v.backend.architectures.join(", ")}, driver ${v.backend.driver}, ${libc}`;
  }
}

const list = (items: readonly string[]) => (items.length === 0 ? "–" : items.join(", "));
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
