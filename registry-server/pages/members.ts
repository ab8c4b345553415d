/** Who has which role in a namespace; for its admins. */
import { type Namespace, roles } from "../admin.ts";
import type { Member } from "../store/records.ts";
import { type Html, html, trusted } from "./html.ts";
import { date } from "./layout.ts";

export interface MembersShown {
  readonly namespace: Namespace;
  readonly members: readonly Member[];
  /** Who has a role here since they have one everywhere. */
  readonly everywhere: readonly Member[];
  readonly accounts: readonly string[];
  /** What people call the issuer, where one is configured. */
  readonly issuer: string | undefined;
  /** Hidden fields of the forms, for who came with a session. */
  readonly fields: { readonly add: Html; readonly remove: Html } | undefined;
}

/** What a member can be named by, and the claim behind it. */
export const memberKinds = { account: "sub", email: "email", subject: "sub", group: "groups" } as const;
export type MemberKind = keyof typeof memberKinds;

export function membersBody(shown: MembersShown): Html {
  const { namespace, members, everywhere, fields } = shown;
  return html`<div class="single">
<section aria-labelledby="members">
<h2 id="members" class="section">Members</h2>
<p class="hint">What people may do here once they signed in. A change counts from the next request on.</p>
${
  members.length === 0
    ? html`<p class="empty">Nobody has a role in ${namespace.name} alone.</p>`
    : memberTable("Table of members", members, (one) =>
        fields === undefined
          ? null
          : html`<form action="/namespaces/${namespace.name}/members/remove" method="post">${fields.remove}<input type="hidden" name="id" value="${one.id}"><button class="quiet" type="submit">Remove<span class="hidden"> ${nameOf(one)}</span></button></form>`,
      )
}
${fields === undefined ? null : addForm(shown, fields.add)}
</section>
${
  everywhere.length === 0
    ? null
    : html`<section aria-labelledby="everywhere">
<h2 id="everywhere" class="section">With a role in all namespaces</h2>
<p class="hint"><code>kernlock registry member</code> changes these.</p>
${memberTable("Members of all namespaces", everywhere, () => null)}
</section>`
}
<section aria-labelledby="roles">
<h2 id="roles" class="section">Roles</h2>
<dl class="facts">
<dt>reader</dt><dd>reads, also what is private</dd>
<dt>auditor</dt><dd>reads, attaches signed statements, decides reviews; publishes nothing</dd>
<dt>publisher</dt><dd>reads, publishes, yanks</dd>
<dt>admin</dt><dd>all of that; quarantines, and decides who has a role here</dd>
</dl>
</section>
</div>`;
}

function memberTable(label: string, members: readonly Member[], action: (one: Member) => Html | null): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}"><table>
<thead><tr><th scope="col">Who</th><th scope="col">Role</th><th scope="col">Known by</th><th scope="col">Since</th><td></td></tr></thead>
<tbody>${members.map(
    (one) => html`
<tr><th scope="row">${nameOf(one)}</th><td>${one.role}</td><td>${knownBy(one)}</td><td>${date(one.createdAt)}</td><td class="action">${action(one)}</td></tr>`,
  )}
</tbody></table></div>`;
}

function addForm({ namespace, accounts, issuer }: MembersShown, field: Html): Html {
  const kinds: readonly (readonly [MemberKind, string])[] = [
    ...(issuer === undefined
      ? []
      : ([
          ["email", `Verified e-mail at ${issuer}`],
          ["group", `Group at ${issuer}`],
          ["subject", `Subject (sub) at ${issuer}`],
        ] as const)),
    ...(accounts.length === 0 ? [] : ([["account", "Account of this registry"]] as const)),
  ];
  if (kinds.length === 0) {
    return html`<p class="hint">Nobody can be added yet: the registry has no accounts (<code>kernlock registry account create</code>), and no issuer is configured where people could sign in.</p>`;
  }
  return html`<h3 class="section" id="add">Add somebody</h3>
<form class="fit" action="/namespaces/${namespace.name}/members" method="post" aria-labelledby="add">${field}
<label>Known by <select name="kind">${kinds.map(([kind, label]) => html`<option value="${kind}">${label}</option>`)}</select></label>
<label>Exact value <input name="value" required maxlength="255" autocomplete="off" autocapitalize="none" spellcheck="false" list="accounts"></label>
<label>Role <select name="role">${roles.map((role) => html`<option>${role}</option>`)}</select></label>
<label>Note <input name="label" maxlength="100" autocomplete="off" placeholder="optional"></label>
<button type="submit">Add</button>
<datalist id="accounts">${accounts.map((name) => html`<option value="${name}">`)}</datalist>
</form>`;
}

function nameOf({ label, claims }: Member): string {
  return label === "" ? Object.values(claims).join(", ") : label;
}

function knownBy({ issuer, claims }: Member): Html {
  if (issuer === "local") return html`account <code>${claims.sub}</code>`;
  const list = Object.entries(claims).map(([name, value], i) => [
    trusted(i === 0 ? "" : ", "),
    html`<code>${name}=${value}</code>`,
  ]);
  return html`${list} at ${issuer.replace(/^https:\/\//, "")}`;
}
