/** Signing in, setting an account up, and refusals, as pages. */
import type { KernlockError } from "@kernlock/kernels/format";
import { type Html, html } from "./html.ts";

export interface SignInChoices {
  /** Label of the issuer's button, where the operator configured one. */
  readonly issuer: string | undefined;
  /** Whether the registry has accounts of its own. */
  readonly accounts: boolean;
  /** A path of this registry. */
  readonly returnTo: string;
  readonly fields: { readonly account: Html; readonly token: Html };
  /** What went wrong with the last try. */
  readonly wrong?: string;
}

export function signInPage({ issuer, accounts, returnTo, fields, wrong }: SignInChoices): Html {
  const back = html`<input type="hidden" name="return" value="${returnTo}">`;
  const token = html`<form class="stacked" action="/signin/token" method="post">${fields.token}${back}
<label>Access token <input name="token" type="password" autocomplete="off" spellcheck="false" required maxlength="100" placeholder="klr_…"></label>
<button type="submit">Sign in with token</button>
</form>`;
  return html`<section class="gate" aria-labelledby="signin">
<h1 id="signin">Sign in</h1>
<p class="hint">Public kernels need no account. Sign in to see private ones and to manage namespaces.</p>
${wrong === undefined ? null : html`<p class="banner grave" role="alert">${wrong}</p>`}
${
  issuer === undefined
    ? null
    : html`<p><a class="button" href="/signin/oidc?return=${encodeURIComponent(returnTo)}">Sign in with ${issuer}</a></p>`
}
${issuer !== undefined && accounts ? html`<p class="or"><span>or</span></p>` : null}
${
  accounts
    ? html`<form class="stacked" action="/signin/account" method="post">${fields.account}${back}
<label>Account <input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required maxlength="256"></label>
<button type="submit">Sign in</button>
</form>
<p class="hint"><a href="/signin/setup">Set up an account</a> with the code that you were given.</p>`
    : null
}
${
  issuer === undefined && !accounts
    ? token
    : html`<details><summary>With an access token instead</summary>
${token}</details>`
}
</section>`;
}

export function noSignInPage(): Html {
  return html`<section class="gate"><h1>Sign in</h1>
<p>This registry is reached without TLS, so nobody can sign in: a session would travel in the clear. Its operator puts a proxy with TLS in front and names the public address with <code>--origin https://…</code>.</p>
<p><a href="/">Back to the kernels</a></p></section>`;
}

export function setupPage(field: Html, wrong?: string): Html {
  return html`<section class="gate" aria-labelledby="setup">
<h1 id="setup">Set up an account</h1>
<p class="hint">The code is good once, and for a day. Your operator gets another with <code>kernlock registry account reset</code>.</p>
${wrong === undefined ? null : html`<p class="banner grave" role="alert">${wrong}</p>`}
<form class="stacked" action="/signin/setup" method="post">${field}
<label>Account <input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64"></label>
<label>Setup code <input name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required maxlength="64" placeholder="kls-…"></label>
<label>New password <input name="password" type="password" autocomplete="new-password" required minlength="12" maxlength="256" aria-describedby="rule"></label>
<p class="hint" id="rule">At least 12 characters.</p>
<label>Once more <input name="again" type="password" autocomplete="new-password" required minlength="12" maxlength="256"></label>
<button type="submit">Set password and sign in</button>
</form>
</section>`;
}

export function refusalPage({ code, message, remedy }: KernlockError): Html {
  return html`<section class="gate">
<h1>That did not work</h1>
<p>${message}</p>
${remedy === undefined ? null : html`<p>${remedy}</p>`}
<p class="hint"><code>${code}</code></p>
<p><a href="/">Back to the kernels</a></p>
</section>`;
}
