/** One version as the pages show it, and what stands on each of its pages. */
import type { Concern } from "../advisories/routes.ts";
import type { VersionDocument } from "../publish/documents.ts";
import type { ListedVersion, VersionState } from "../store/records.ts";
import { concernBanner } from "./advisories.ts";
import { type Html, html } from "./html.ts";
import { counted, date, here, name } from "./layout.ts";

export interface Shown {
  readonly document: VersionDocument;
  readonly state: VersionState;
  readonly stateReason: string | null;
  readonly stateAt: string | null;
  /** Highest first, quarantined ones among them. */
  readonly versions: readonly ListedVersion[];
  readonly latest: string;
  /** Advisories about it. */
  readonly concerns: readonly Concern[];
  readonly visibility: "public" | "private";
  readonly origin: string;
}

export type Tab = "overview" | "contents" | "provenance" | "evidence" | "versions";

const tabs: readonly { readonly tab: Tab; readonly label: string; readonly path: string }[] = [
  { tab: "overview", label: "Overview", path: "" },
  { tab: "contents", label: "Contents", path: "/contents" },
  { tab: "provenance", label: "Provenance", path: "/provenance" },
  { tab: "evidence", label: "Audits and tests", path: "/evidence" },
];

export function versionPath({ document }: Pick<Shown, "document">): string {
  return `/kernels/${document.name}/${document.version}`;
}

/** Title, marks, banner and tabs, then what belongs to the tab. */
export function subjectPage(shown: Shown, current: Tab, body: Html): Html {
  const { document: kernel } = shown;
  return html`<article class="kernel">
<header class="title">
${banner(shown)}
${concernBanner(kernel.version, shown.concerns)}
<h1>${name(kernel.name)} <span class="tag">${kernel.version}</span></h1>
<p class="summary">${kernel.description}</p>
<ul class="marks">
${stateMark(shown.state)}
<li class="mark good">Signed</li>
<li class="mark good">Provenance checked</li>
<li class="mark">${counted(kernel.variants.length, "variant")}</li>
<li class="mark">${kernel.license}</li>
${shown.visibility === "private" ? html`<li class="mark">Private</li>` : null}
</ul>
</header>
<nav class="tabs" aria-label="Pages of this version"><ul>${tabs.map(
    ({ tab, label, path }) => html`
<li><a href="${versionPath(shown)}${path}"${tab === current ? here : null}>${label}</a></li>`,
  )}
<li><a href="/kernels/${kernel.name}/versions"${current === "versions" ? here : null}>Versions</a></li>
</ul></nav>
${body}
</article>`;
}

function stateMark(state: VersionState): Html | null {
  switch (state) {
    case "ok":
      return null;
    case "yanked":
      return html`<li class="mark bad">Yanked</li>`;
    case "quarantined":
      return html`<li class="mark bad">Quarantined</li>`;
    case "staged":
      return html`<li class="mark">Waits for review</li>`;
    case "rejected":
      return html`<li class="mark bad">Rejected</li>`;
  }
}

/** What a reader has to know before anything else. */
export function banner(
  shown: Pick<Shown, "state" | "stateReason" | "stateAt" | "versions" | "latest"> & {
    readonly document: { readonly name: string; readonly version: string };
  },
): Html | null {
  const { document: kernel, latest, state } = shown;
  const offered = shown.versions.some((v) => v.version === latest && v.state === "ok");
  const instead =
    offered && latest !== kernel.version
      ? html`Use <a href="/kernels/${kernel.name}/${latest}">${latest}</a> instead.`
      : html`No other version is offered.`;
  const reason = shown.stateReason === null ? "No reason was given." : html`Reason: ${shown.stateReason}`;
  const when = shown.stateAt === null ? null : html` on ${date(shown.stateAt)}`;
  const since = shown.stateAt === null ? null : html` since ${date(shown.stateAt)}`;
  switch (state) {
    case "yanked":
      return html`<div class="banner" role="note"><p><b>${kernel.version} was yanked</b>${when}. Locks that pin it still get it; new locks do not choose it.</p><p>${reason}</p><p>${instead}</p></div>`;
    case "quarantined":
      return html`<div class="banner grave" role="note"><p><b>${kernel.version} is in quarantine</b>${since}. Nothing of it is handed out to anybody.</p><p>${reason}</p><p>${instead}</p></div>`;
    case "staged":
      return html`<div class="banner" role="note"><p><b>${kernel.version} waits for its review</b>${since}. Only members see it; nobody can lock or pull it by its name.</p><p><a href="/admin/reviews">What waits</a></p></div>`;
    case "rejected":
      return html`<div class="banner grave" role="note"><p><b>${kernel.version} was rejected</b>${when}. It was never published.</p><p>${reason}</p></div>`;
    case "ok":
      return kernel.version === latest || !offered
        ? null
        : html`<p class="notice">The latest release is <a href="/kernels/${kernel.name}">${latest}</a>.</p>`;
  }
}

/** What a quarantined version shows: that it was, why it is withheld, and where to go. */
export function quarantinePage(shown: Parameters<typeof banner>[0]): Html {
  const { document: kernel } = shown;
  return html`<article class="kernel">
${banner(shown)}
<h1>${name(kernel.name)} <span class="tag">${kernel.version}</span></h1>
<p>Its files, card and provenance are withheld, by every address. <a href="/kernels/${kernel.name}/versions">All versions</a></p>
</article>`;
}
