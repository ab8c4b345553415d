/** Namespaces: all that a reader may see, and of one its kernels and what a publish to it has to meet. */
import type { Policy } from "@kernlock/policies/trust";
import type { Namespace } from "../admin.ts";
import type { Mirror } from "../mirror/mirrors.ts";
import type { Hit } from "./facets.ts";
import { kernelList } from "./home.ts";
import { type Html, html } from "./html.ts";
import { counted, date, digest, here } from "./layout.ts";

export function namespacesPage(
  namespaces: readonly { readonly namespace: Namespace; readonly kernels: number }[],
): Html {
  return html`<header class="title"><h1>Namespaces</h1>
<p class="summary">Each has a policy of its own: whose signatures, builders and sources a publish must have.</p></header>
${
  namespaces.length === 0
    ? html`<p class="empty">There are none that you may see. <code>kernlock registry namespace create</code> makes one.</p>`
    : html`<ul class="kernels">${namespaces.map(
        ({ namespace, kernels }) => html`
<li><a href="/namespaces/${namespace.name}"><span class="name">${namespace.name}</span>
<span class="tag">${namespace.visibility}</span>
<span class="facts">${namespace.kind === "kernels" ? counted(kernels, "kernel") : "OCI artifacts"} · since ${date(namespace.createdAt)}</span></a></li>`,
      )}
</ul>`
}`;
}

export type NamespaceTab = "kernels" | "policy" | "members" | "tokens";

interface TabLink {
  readonly tab: NamespaceTab;
  readonly label: string;
  readonly path: string;
  /** Shown to admins alone. */
  readonly admin?: true;
}

const tabs: readonly TabLink[] = [
  { tab: "kernels", label: "Kernels", path: "" },
  { tab: "policy", label: "Policy", path: "/policy" },
  { tab: "members", label: "Members", path: "/members", admin: true },
  { tab: "tokens", label: "Tokens", path: "/tokens", admin: true },
];

/** Title and tabs, then what belongs to the tab. */
export function namespaceFrame(namespace: Namespace, administers: boolean, current: NamespaceTab, body: Html): Html {
  return html`<header class="title"><h1>${namespace.name}</h1>
<p class="summary">${namespace.kind === "kernels" ? "A namespace of signed kernels." : "A namespace of plain OCI artifacts; its tags move."}</p>
<ul class="marks"><li class="mark">${namespace.visibility === "public" ? "Public" : "Private"}</li><li class="mark">Since ${date(namespace.createdAt)}</li></ul></header>
<nav class="tabs" aria-label="Pages of this namespace"><ul>${tabs
    .filter(({ admin }) => admin !== true || administers)
    .map(
      ({ tab, label, path }) => html`
<li><a href="/namespaces/${namespace.name}${path}"${tab === current ? here : null}>${label}</a></li>`,
    )}
</ul></nav>
${body}`;
}

export function kernelsBody(hits: readonly Hit[], mirrors: readonly Mirror[]): Html {
  return html`<h2 class="hidden">Kernels</h2>
${mirrors.map(({ pattern, origin, settings }) => html`<p class="hint"><code>${pattern}</code> is mirrored from ${origin}${settings.coolDownDays === 0 ? null : html`, ${counted(settings.coolDownDays, "day")} after a trusted time`}.</p>`)}
<div class="single">${hits.length === 0 ? html`<p class="empty">Nothing is published in this namespace.</p>` : kernelList(hits)}</div>`;
}

/** `policy` is undefined for a namespace that has none. */
export function policyBody(namespace: Namespace, policy: Policy | undefined): Html {
  if (policy === undefined) {
    return html`<div class="single"><p class="empty">Artifacts are not judged, so there is no policy.</p></div>`;
  }
  return html`<div class="single"><section aria-labelledby="keys">
<h2 id="keys" class="section">Keys that it knows</h2>
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
</section>
<section aria-labelledby="text">
<h2 id="text" class="section">What a publish has to meet</h2>
<pre tabindex="0"><code>${namespace.policy}</code></pre>
</section></div>`;
}
