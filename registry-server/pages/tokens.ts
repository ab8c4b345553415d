/** Tokens of a namespace and the identities that are exchanged for them; for its admins. */
import { type Namespace, roles, type TokenInfo, type TrustedPublisher } from "../admin.ts";
import { type Html, html, trusted } from "./html.ts";
import { date } from "./layout.ts";

export interface TokensShown {
  readonly namespace: Namespace;
  readonly tokens: readonly TokenInfo[];
  readonly publishers: readonly TrustedPublisher[];
  /** Names of packages that are there, to choose from. */
  readonly packages: readonly string[];
  readonly now: Date;
  /** Hidden fields of the forms, for who came with a session. */
  readonly fields: { readonly create: Html; readonly revoke: Html; readonly distrust: Html } | undefined;
  /** What was made by this request. */
  readonly made: { readonly token: string; readonly info: TokenInfo } | undefined;
  readonly origin: string;
}

/** How long a token may live: the choice, its label, days or null. */
export const lifetimes: readonly [string, string, number | null][] = [
  ["7", "7 days", 7],
  ["30", "30 days", 30],
  ["90", "90 days", 90],
  ["365", "1 year", 365],
  ["never", "without end", null],
];

export function tokensBody(shown: TokensShown): Html {
  const { namespace, tokens, fields } = shown;
  return html`<div class="single">
${madeSection(shown)}
<section aria-labelledby="tokens">
<h2 id="tokens" class="section">Tokens</h2>
<p class="hint">For programs: <code>kernlock</code>, CI, and every OCI client. A token is shown once; only its hash is kept.</p>
${
  tokens.length === 0
    ? html`<p class="empty">There is no token for ${namespace.name} alone.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of tokens"><table>
<thead><tr><th scope="col">Label</th><th scope="col">Role</th><th scope="col">Package</th><th scope="col">Made</th><th scope="col">Expires</th><td></td></tr></thead>
<tbody>${tokens.map(
        (one) => html`
<tr><th scope="row">${labelOf(one)}</th><td>${one.role}</td><td>${one.package ?? "all"}</td><td>${date(one.createdAt)}</td><td>${expiry(one, shown.now)}</td><td class="action">${
          fields === undefined
            ? null
            : html`<form action="/namespaces/${namespace.name}/tokens/revoke" method="post">${fields.revoke}<input type="hidden" name="id" value="${one.id}"><button class="quiet" type="submit">Revoke<span class="hidden"> ${labelOf(one)}</span></button></form>`
        }</td></tr>`,
      )}
</tbody></table></div>`
}
${fields === undefined ? null : createForm(shown, fields.create)}
</section>
${publisherSection(shown)}
</div>`;
}

function madeSection({ made, origin }: TokensShown): Html | null {
  if (made === undefined) return null;
  return html`<section class="made" aria-labelledby="made" role="status">
<h2 id="made">New token for ${made.info.namespace}</h2>
<p>Copy it now. It is not shown again.</p>
<pre tabindex="0"><code class="secret">${made.token}</code></pre>
<p class="hint">Keep it where <code>kernlock</code> and other clients look:</p>
<pre class="command" tabindex="0"><code>kernlock login ${origin}</code></pre>
</section>`;
}

function createForm({ namespace, packages }: TokensShown, field: Html): Html {
  return html`<h3 class="section" id="create">Make a token</h3>
<form class="fit" action="/namespaces/${namespace.name}/tokens" method="post" aria-labelledby="create">${field}
<label>Label <input name="label" required maxlength="100" autocomplete="off" placeholder="ci"></label>
<label>Role <select name="role">${roles.map((role) => html`<option>${role}</option>`)}</select></label>
<label>Package <input name="package" maxlength="200" autocomplete="off" autocapitalize="none" spellcheck="false" list="packages" placeholder="all of ${namespace.name}"></label>
<label>Lives for <select name="lifetime">${lifetimes.map(([value, label]) => html`<option value="${value}"${value === "90" ? trusted(" selected") : null}>${label}</option>`)}</select></label>
<button type="submit">Make token</button>
<datalist id="packages">${packages.map((name) => html`<option value="${name}">`)}</datalist>
</form>`;
}

function publisherSection({ namespace, publishers, fields }: TokensShown): Html {
  return html`<section aria-labelledby="publishers">
<h2 id="publishers" class="section">Trusted publishers</h2>
<p class="hint">CI jobs whose identity is exchanged for a token of 15 minutes. <code>kernlock registry publisher add</code> names one.</p>
${
  publishers.length === 0
    ? html`<p class="empty">No outside identity may publish here.</p>`
    : html`<div class="scroll" tabindex="0" role="region" aria-label="Table of trusted publishers"><table>
<thead><tr><th scope="col">Label</th><th scope="col">Issuer</th><th scope="col">Package</th><th scope="col">Claims</th><td></td></tr></thead>
<tbody>${publishers.map(
        (one) => html`
<tr><th scope="row">${one.label === "" ? one.id : one.label}</th><td>${one.issuer}</td><td>${one.package ?? "all"}</td><td>${Object.entries(one.claims).map(([claim, value]) => html`<code class="line">${claim}=${value}</code>`)}</td><td class="action">${
          fields === undefined
            ? null
            : html`<form action="/namespaces/${namespace.name}/publishers/remove" method="post">${fields.distrust}<input type="hidden" name="id" value="${one.id}"><button class="quiet" type="submit">Remove<span class="hidden"> ${one.label || one.id}</span></button></form>`
        }</td></tr>`,
      )}
</tbody></table></div>`
}
</section>`;
}

const labelOf = ({ label, id }: TokenInfo) => (label === "" ? id : label);

function expiry({ expiresAt }: TokenInfo, now: Date): Html {
  if (expiresAt === null) return html`<span class="maybe">never</span>`;
  return Date.parse(expiresAt) <= now.getTime() ? html`<span class="no">expired</span>` : date(expiresAt);
}
