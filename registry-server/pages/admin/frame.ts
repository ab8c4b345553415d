/** The frame of the pages for those who run a registry or decide for a namespace. */
import { grantsOf, may, type Principal } from "../../access.ts";
import { type Html, html } from "../html.ts";
import { here } from "../layout.ts";

export type AdminTab = "health" | "reviews" | "quarantine" | "gc" | "audit";

/** Whether somebody decides in a namespace, or in all. */
export const decidesSomewhere = (principal: Principal): boolean =>
  grantsOf(principal).some((grant) => may(principal, "review", grant.package ?? grant.namespace));

export const administersSomewhere = (principal: Principal): boolean =>
  grantsOf(principal).some((grant) => may(principal, "administer", grant.package ?? grant.namespace));

/** Of the whole registry: admins and auditors of all namespaces. */
export const watchesAll = (principal: Principal): boolean => may(principal, "review", "*");

const tabs: readonly {
  readonly tab: AdminTab;
  readonly label: string;
  readonly path: string;
  readonly all: boolean;
}[] = [
  { tab: "health", label: "Health", path: "/admin", all: true },
  { tab: "reviews", label: "Reviews", path: "/admin/reviews", all: false },
  { tab: "quarantine", label: "Quarantine", path: "/admin/quarantine", all: false },
  { tab: "gc", label: "Collection", path: "/admin/gc", all: true },
  { tab: "audit", label: "Audit log", path: "/admin/audit", all: true },
];

export function adminFrame(principal: Principal, current: AdminTab, summary: string, body: Html): Html {
  const all = watchesAll(principal);
  const shown = tabs.filter((tab) => all || !tab.all);
  return html`<header class="title"><h1>Administration</h1>
<p class="summary">${summary}</p></header>
<nav class="tabs" aria-label="Pages of administration"><ul>${shown.map(
    ({ tab, label, path }) => html`
<li><a href="${path}"${tab === current ? here : null}>${label}</a></li>`,
  )}
</ul></nav>
<div class="single">
${body}
</div>`;
}

const minute = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  timeZone: "UTC",
});

/** A moment for people, to the minute in UTC. */
export function moment(iso: string): Html {
  return html`<time datetime="${iso}">${minute.format(new Date(iso))}</time>`;
}

const said: Readonly<Record<string, string>> = {
  approve: "It is published.",
  reject: "It was rejected.",
  ok: "It is handed out again.",
  yanked: "It was yanked.",
  quarantined: "It is in quarantine.",
};

/** What a form came to, at the top of the page that it leads to. Only these: the word comes from the address. */
export function done(what: string): Html | null {
  return Object.hasOwn(said, what) ? html`<p class="notice" role="status">${said[what]}</p>` : null;
}
