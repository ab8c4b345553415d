/** How to take a version: the manifest's lines, the lock's lines, and how to pull it without Kernlock. */
import { type Html, html } from "./html.ts";
import type { Shown } from "./subject.ts";

export function useSection({ document: kernel, origin, visibility }: Shown): Html {
  const [variant] = kernel.variants;
  const file = variant?.files.find((f) => f.kind === "shared-object" || f.kind === "device-image");
  const authorization = visibility === "private" ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return html`<section aria-labelledby="use">
<h2 id="use" class="section">Use it</h2>
<p class="hint">In <code>kernels.json</code>:</p>
<pre tabindex="0"><code>{
  "version": 1,
  "registry": "${origin}",
  "variants": ["${variant?.variant}"],
  "kernels": {
    "${kernel.name}": "^${kernel.version}"
  }
}</code></pre>
<pre class="command" tabindex="0"><code>kernlock lock
kernlock fetch</code></pre>
<p class="hint"><code>kernels.lock</code> then pins:</p>
<pre tabindex="0"><code>"${kernel.name}": {
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
<pre tabindex="0"><code>curl -sf${authorization} \\
  ${origin}/v2/${kernel.name}/manifests/${kernel.digest}${
    file === undefined
      ? null
      : html`

curl -sfO${authorization} \\
  ${origin}/v2/${kernel.name}/blobs/${file.digest}
sha256sum ${file.digest.slice("sha256:".length)}`
  }</code></pre>
<p class="hint">Any OCI client works too:</p>
<pre tabindex="0"><code>skopeo copy --all \\
  docker://${new URL(origin).host}/${kernel.name}:${kernel.version} \\
  oci:${kernel.name.split("/")[1]}:${kernel.version}</code></pre>
</details>
</section>`;
}
