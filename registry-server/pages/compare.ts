/** What changed from one version to another. */
import type { VariantDocument, VersionDocument } from "../publish/documents.ts";
import { type TrustChange, trustChanges } from "../publish/trust-changes.ts";
import type { ListedVersion } from "../store/records.ts";
import { type Html, html } from "./html.ts";
import { bytes, counted, digest, link, name } from "./layout.ts";
import { cellsOf } from "./matrix.ts";
import { compareForm } from "./versions.ts";

export type Change = "added" | "removed" | "changed" | "same";

export interface Difference<T> {
  readonly key: string;
  readonly change: Change;
  readonly before: T | undefined;
  readonly after: T | undefined;
}

/** By key; `same` decides about those in both. */
export function difference<T>(
  before: readonly T[],
  after: readonly T[],
  keyOf: (item: T) => string,
  same: (a: T, b: T) => boolean,
): Difference<T>[] {
  const [old, now] = [before, after].map((items) => new Map(items.map((item) => [keyOf(item), item])));
  const keys = [...new Set([...old!.keys(), ...now!.keys()])].sort();
  return keys.map((key) => {
    const [a, b] = [old!.get(key), now!.get(key)];
    const change = a === undefined ? "added" : b === undefined ? "removed" : same(a, b) ? "same" : "changed";
    return { key, change, before: a, after: b };
  });
}

export function comparePage(from: VersionDocument, to: VersionDocument, all: readonly ListedVersion[]): Html {
  const kernel = to.name;
  return html`<article class="kernel">
<header class="title"><h1><a href="/kernels/${kernel}">${name(kernel)}</a> <span class="tag">${from.version}</span> to <span class="tag">${to.version}</span></h1>
<p class="summary">What somebody who moves from one to the other gets.</p></header>
${compareForm(kernel, all, from.version, to.version)}
${trustSection(from, to)}
<h2 class="section" id="variants">Variants</h2>
${variants(from, to)}
</article>`;
}

function trustSection(from: VersionDocument, to: VersionDocument): Html {
  const changes = new Map(trustChanges(from, to).map((change) => [change.what, change]));
  const row = (label: string, change: TrustChange | undefined, before: Html, after: Html) =>
    html`
<tr><th scope="row">${label}</th><td>${before}</td><td>${after}</td><td>${change === undefined ? html`same` : html`<span class="maybe">changed</span>`}</td></tr>`;
  const lines = (items: readonly Html[]) => items.map((item) => html`<span class="line">${item}</span>`);
  const plain = (label: string, before: string, after: string) =>
    html`
<tr><th scope="row">${label}</th><td>${before}</td><td>${after}</td><td>${before === after ? "same" : html`<span class="maybe">changed</span>`}</td></tr>`;
  const signers = (d: VersionDocument) => lines(d.signers.map((s) => digest(s, "signer")));
  const builders = (d: VersionDocument) => lines(d.builders.map((b) => html`<code>${b}</code>`));
  return html`<h2 class="section" id="trust">Trust</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="trust">
<table>
<thead><tr><th scope="col">What</th><th scope="col">${from.version}</th><th scope="col">${to.version}</th><th scope="col">Verdict</th></tr></thead>
<tbody>
${row("Signed by", changes.get("signer"), html`${signers(from)}`, html`${signers(to)}`)}
${row("Built by", changes.get("builder"), html`${builders(from)}`, html`${builders(to)}`)}
${row("Source", changes.get("source"), link(from.source.repository), link(to.source.repository))}
${plain("Revision", from.source.revision.slice(0, 12), to.source.revision.slice(0, 12))}
${plain("Licence", from.license, to.license)}
${plain("ABI build", abiOf(from), abiOf(to))}
</tbody>
</table>
</div>`;
}

const abiOf = (d: VersionDocument) => [...new Set(d.variants.map((v) => v.abi_build.slice(7, 19)))].join(", ");

function variants(from: VersionDocument, to: VersionDocument): Html {
  const found = difference(
    from.variants,
    to.variants,
    (v) => v.variant,
    // The manifest names the version, so equal contents never have equal manifests.
    (a, b) => JSON.stringify(facts(a)) === JSON.stringify(facts(b)),
  );
  return html`${found.map(({ key, change, before, after }) => {
    const mark = html`<h3 class="variant">${key} ${changeMark(change)}</h3>`;
    if (change === "same") return mark;
    if (before === undefined || after === undefined) {
      const { files, ops } = (before ?? after)!;
      const size = bytes(files.reduce((sum, file) => sum + file.size, 0));
      return html`${mark}<p class="hint">${counted(files.length, "file")}, ${size}, ${counted(ops.length, "op")}</p>`;
    }
    return html`${mark}
${table(
  `Files of ${key}`,
  ["File", "Change", "Size"],
  difference(
    before.files,
    after.files,
    (f) => f.path,
    (a, b) => a.digest === b.digest,
  ).map(
    (f) =>
      html`<tr><th scope="row"><code>${f.key}</code></th><td>${changeMark(f.change)}</td><td>${sizes(f.before?.size, f.after?.size)}</td></tr>`,
  ),
)}
${table(
  `Ops and architectures of ${key}`,
  ["Op or architecture", "Change"],
  [
    ...difference(
      ops(before),
      ops(after),
      (o) => o.key,
      (a, b) => a.text === b.text,
    ),
    ...difference(
      architectures(before),
      architectures(after),
      (a) => a,
      () => true,
    ),
  ].map((o) => html`<tr><th scope="row"><code>${o.key}</code></th><td>${changeMark(o.change)}</td></tr>`),
)}`;
  })}`;
}

const facts = (v: VariantDocument) => ({
  files: v.files,
  ops: v.ops,
  backend: v.backend,
  platform: v.platform,
  abi: v.abi_build,
});
const ops = (v: VariantDocument) =>
  v.ops.map((op) => ({ key: `${op.name}/${op.path} ${op.mode}`, text: JSON.stringify(op) }));
const architectures = (v: VariantDocument) =>
  cellsOf({ variants: [v] }).flatMap(({ row, columns }) => [row, ...columns]);

function changeMark(change: Change): Html {
  switch (change) {
    case "same":
      return html`<span class="same">same</span>`;
    case "added":
      return html`<span class="yes">added</span>`;
    case "removed":
      return html`<span class="no">removed</span>`;
    case "changed":
      return html`<span class="maybe">changed</span>`;
  }
}

function sizes(before: number | undefined, after: number | undefined): string {
  if (before === undefined || after === undefined) return bytes((before ?? after)!);
  return before === after ? bytes(after) : `${bytes(before)} → ${bytes(after)}`;
}

function table(label: string, heads: readonly string[], rows: readonly Html[]): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}"><table>
<thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
<tbody>${rows}</tbody>
</table></div>`;
}
