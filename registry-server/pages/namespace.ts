/** A namespace: its kernels, what a publish to it has to meet, and, for its admins, who may write. */
import type { Policy } from "@kernlock/policies/trust";
import type { Namespace, TokenInfo, TrustedPublisher } from "../admin.ts";
import type { Hit } from "./facets.ts";
import { kernelList } from "./home.ts";
import { type Html, html } from "./html.ts";
import { counted, date, digest } from "./layout.ts";

export function namespacePage(shown: {
  readonly namespace: Namespace;
  readonly policy: Policy;
  readonly hits: readonly Hit[];
  /** Only for its admins. */
  readonly members:
    | { readonly tokens: readonly TokenInfo[]; readonly publishers: readonly TrustedPublisher[] }
    | undefined;
}): Html {
  const { namespace, policy, hits, members } = shown;
  return html`<header class="title"><h1>${namespace.name}</h1>
<p class="summary">${namespace.kind === "kernels" ? "A namespace of signed kernels." : "A namespace of plain OCI artifacts; its tags move."}</p>
<ul class="marks"><li class="mark">${namespace.visibility === "public" ? "Public" : "Private"}</li><li class="mark">since ${date(namespace.createdAt)}</li><li class="mark">${counted(hits.length, "kernel")}</li></ul></header>
<h2>Kernels</h2>
${hits.length === 0 ? html`<p class="empty">Nothing is published in this namespace.</p>` : kernelList(hits)}
<h2 id="keys">Keys that its policy knows</h2>
${
  policy.keys.size === 0
    ? html`<p class="empty">None.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of keys"><table>
<thead><tr><th scope="col">Key</th><th scope="col">Fingerprint</th><th scope="col">Counts</th></tr></thead>
<tbody>${[...policy.keys.values()].map(
        (key) => html`
<tr><th scope="row">${key.id}</th><td>${digest(key.fingerprint)}</td><td>${key.validFrom === undefined ? null : html`from ${date(key.validFrom.toISOString())} `}${key.validUntil === undefined ? "without limit of time" : html`until ${date(key.validUntil.toISOString())}`}</td></tr>`,
      )}
</tbody></table></div>`
}
<details><summary>The whole policy that a publish has to meet</summary><pre tabindex="0"><code>${namespace.policy}</code></pre></details>
${members === undefined ? null : memberSection(members)}`;
}

function memberSection({
  tokens,
  publishers,
}: {
  tokens: readonly TokenInfo[];
  publishers: readonly TrustedPublisher[];
}): Html {
  return html`<h2 id="tokens">Tokens</h2>
<p class="hint">Shown to admins. <code>kernlock registry token</code> makes and revokes them.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of tokens"><table>
<thead><tr><th scope="col">Label</th><th scope="col">Role</th><th scope="col">Package</th><th scope="col">Made</th><th scope="col">Expires</th></tr></thead>
<tbody>${tokens.map(
    (t) => html`
<tr><th scope="row">${t.label === "" ? t.id : t.label}</th><td>${t.role}</td><td>${t.package ?? "all"}</td><td>${date(t.createdAt)}</td><td>${t.expiresAt === null ? "never" : date(t.expiresAt)}</td></tr>`,
  )}
</tbody></table></div>
<h2 id="publishers">Trusted publishers</h2>
${
  publishers.length === 0
    ? html`<p class="empty">No outside identity may publish here.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of trusted publishers"><table>
<thead><tr><th scope="col">Label</th><th scope="col">Issuer</th><th scope="col">Package</th><th scope="col">Claims</th></tr></thead>
<tbody>${publishers.map(
        (p) => html`
<tr><th scope="row">${p.label === "" ? p.id : p.label}</th><td>${p.issuer}</td><td>${p.package ?? "all"}</td><td>${Object.entries(p.claims).map(([claim, value]) => html`<code>${claim}=${value}</code> `)}</td></tr>`,
      )}
</tbody></table></div>`
}`;
}
