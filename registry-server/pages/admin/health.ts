/** How the registry is. */
import { chores, type Health } from "../../operations/health.ts";
import type { ChoreName } from "../../store/records.ts";
import { type Html, html } from "../html.ts";
import { bytes, counted } from "../layout.ts";
import { moment } from "./frame.ts";

const choreLabels: Readonly<Record<ChoreName, string>> = {
  gc: "Collection",
  scrub: "Scrub",
  fsck: "Check",
  backup: "Backup",
};

export function healthBody(health: Health): Html {
  const { database, storage, problems, counts, versions } = health;
  const disk = storage.disk;
  const full = disk === null ? 0 : 1 - disk.free / disk.total;
  return html`<section aria-labelledby="state">
<h2 id="state" class="section">State</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Table of parts"><table>
<thead><tr><th scope="col">Part</th><th scope="col">State</th><th scope="col">Holds</th></tr></thead>
<tbody>
<tr><th scope="row">Database</th><td>${standing(problems.database)}</td><td>${database.kind === "sqlite" ? "SQLite" : "PostgreSQL"}, ${bytes(database.bytes)}, schema ${database.schema}</td></tr>
<tr><th scope="row">Storage</th><td>${standing(problems.storage)}</td><td>${storage.kind === "folder" ? "folder" : "object store"}, ${counted(storage.blobs, "blob")}, ${bytes(storage.bytes)}</td></tr>
<tr><th scope="row">Blobs</th><td>${storage.damaged === 0 ? html`<span class="yes">none damaged</span>` : html`<span class="no">${storage.damaged} damaged</span>`}</td><td>${storage.damaged === 0 ? "–" : html`<code>kernlock registry fsck</code> names what needs them`}</td></tr>
<tr><th scope="row">Disk</th><td>${disk === null ? "–" : full > 0.9 ? html`<span class="no">${percent(full)} full</span>` : html`<span class="yes">${percent(full)} full</span>`}</td><td>${disk === null ? "elsewhere" : html`${bytes(disk.free)} of ${bytes(disk.total)} free`}</td></tr>
</tbody></table></div>
</section>
<section aria-labelledby="care">
<h2 id="care" class="section">Care</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Table of care"><table>
<thead><tr><th scope="col">What</th><th scope="col">Last time</th><th scope="col">Outcome</th></tr></thead>
<tbody>${chores.map((name) => {
    const last = health.last[name];
    return html`
<tr><th scope="row">${choreLabels[name]}</th><td>${last === null ? html`<span class="maybe">never</span>` : moment(last.at)}</td><td>${last === null ? html`<code>kernlock registry ${name}</code>` : outcome(name, last.outcome)}</td></tr>`;
  })}
</tbody></table></div>
</section>
<section aria-labelledby="holds">
<h2 id="holds" class="section">This registry</h2>
<dl class="facts">
<dt>Namespaces</dt><dd>${counts.namespaces}</dd>
<dt>Kernels</dt><dd>${counts.kernels}</dd>
<dt>Versions</dt><dd>${counts.versions}</dd>
<dt>Wait for review</dt><dd>${health.waiting === 0 ? "none" : html`<a href="/admin/reviews">${health.waiting}</a>`}</dd>
<dt>Audit log</dt><dd><a href="/admin/audit">${counted(health.audit.seq, "entry").replace("entrys", "entries")}</a></dd>
<dt>Kernlock</dt><dd>${versions.kernlock}</dd>
<dt>Node</dt><dd>${versions.node}</dd>
<dt>As of</dt><dd>${moment(health.at)} UTC</dd>
</dl>
<p class="hint more"><code>kernlock registry health</code> and <a href="/api/v1/health">JSON</a> (for tokens) say the same.</p>
</section>`;
}

function standing(problem: string | null): Html {
  return problem === null ? html`<span class="yes">takes writes</span>` : html`<span class="no">${problem}</span>`;
}

const percent = (part: number): string => `${Math.round(part * 100)} %`;

function outcome(name: ChoreName, found: Record<string, unknown>): string {
  const number = (key: string) => Number(found[key] ?? 0);
  switch (name) {
    case "gc":
      return `${counted(number("blobs"), "blob")} removed, ${bytes(number("bytes"))}`;
    case "scrub":
      return `${counted(number("checked"), "blob")} read, ${number("damaged")} damaged`;
    case "fsck":
      return found.sound === true ? "sound" : "not sound";
    case "backup":
      return `${counted(number("blobs"), "blob")}, ${bytes(number("bytes"))}`;
  }
}
