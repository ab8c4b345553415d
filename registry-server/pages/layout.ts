import { type Html, html, trusted } from "./html.ts";

/** No script at all, nothing from another host, no inline style. */
export const contentSecurityPolicy =
  "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

export interface Frame {
  readonly title: string;
  readonly description: string;
  /** Text in the search field. */
  readonly query?: string;
  readonly host: string;
  /** The home page has its own, larger search field. */
  readonly home?: boolean;
  readonly reader: Reader;
}

export interface Reader {
  /** Null for nobody in particular. */
  readonly name: string | null;
  /** Hidden field of the form that signs out; null for who has no session. */
  readonly signOut: Html | null;
  /** Of the whole registry. */
  readonly administers: boolean;
}

export function page(frame: Frame, main: Html): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${frame.title}</title>
<meta name="description" content="${frame.description}">
<link rel="icon" href="/assets/mark.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/style.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="site">
<div class="wide">
<a class="brand" href="/"><img src="/assets/mark.svg" alt="" width="26" height="26">Kernlock</a>
${frame.home === true ? null : searchForm(frame.query ?? "", "compact")}
<nav aria-label="Site"><a href="/namespaces">Namespaces</a>${frame.reader.administers ? html`<a href="/admin">Admin</a>` : null}${
    frame.reader.name === null
      ? html`<a href="/signin">Sign in</a>`
      : html`<span class="reader">${frame.reader.name}</span>`
  }${
    frame.reader.signOut === null
      ? null
      : html`<form class="signout" action="/signout" method="post">${frame.reader.signOut}<button type="submit">Sign out</button></form>`
  }</nav>
</div>
</header>
<main id="main" class="wide">
${main}
</main>
<footer class="site">
<div class="wide">
<p>Kernels on <b>${frame.host}</b> are published only with signed provenance that satisfies their namespace’s policy.</p>
<p><a href="/advisories">Advisories</a> <a href="/api/v1/search">JSON API</a> <a href="/healthz">Health</a></p>
</div>
</footer>
</body>
</html>
`.text;
}

export function searchForm(query: string, kind: "compact" | "large"): Html {
  return html`<form class="search ${kind}" action="/" method="get" role="search">
<input type="search" name="q" value="${query}" maxlength="200" aria-label="Search kernels" placeholder="Kernels and ops" autocomplete="off" spellcheck="false">
<button type="submit">Search</button>
</form>`;
}

const months = "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec".split(" ");

/**
 * A moment for people, in UTC; machines read the attribute. Spelled here, as a formatter of the standard library keeps
 * 20 KB outside of the heap, where the collector does not see it, and all of its tables in memory.
 */
export function date(iso: string): Html {
  const day = new Date(iso);
  const text = `${day.getUTCDate()} ${months[day.getUTCMonth()]} ${day.getUTCFullYear()}`;
  return html`<time datetime="${iso}">${text}</time>`;
}

export function bytes(size: number): string {
  if (size < 1000) return `${size} B`;
  const units = ["kB", "MB", "GB"];
  let value = size / 1000;
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A digest shown short, selected whole by one click. */
export function digest(value: string, label?: string): Html {
  return html`<code class="digest"${label === undefined ? null : html` aria-label="${label}"`}>${value}</code>`;
}

/** A link when the text is a web address, the text itself when not. */
export function link(address: string): Html {
  return /^https?:\/\//.test(address)
    ? html`<a href="${address}" rel="nofollow noopener noreferrer">${address.replace(/^https?:\/\//, "")}</a>`
    : html`<span>${address}</span>`;
}

/** Package names may break after their slash, nowhere else. */
export function name(repository: string): Html {
  const [namespace, short] = repository.split("/");
  return html`<span class="namespace">${namespace}/</span><wbr>${short}`;
}

export function counted(count: number, one: string): string {
  return count === 1 ? `1 ${one}` : `${count} ${one}s`;
}

/** For the link to where the reader is. */
export const here = trusted(' aria-current="page"');
