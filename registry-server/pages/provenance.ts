/** Who verified what, when, with which key; and how to do it again without asking anybody. */
import type { AcceptedStatement, Policy, Requirement } from "@kernlock/policies/trust";
import type { TrustChange } from "../publish/trust-changes.ts";
import { type Html, html } from "./html.ts";
import { date, digest, link } from "./layout.ts";
import { type Shown, versionPath } from "./subject.ts";

/** `policy` is the namespace's as it is today; it names the keys. */
export function provenanceBody(
  shown: Shown,
  policy: Policy,
  changes: { before: string; list: readonly TrustChange[] } | undefined,
): Html {
  const { document: kernel } = shown;
  return html`<div class="single">
${changes === undefined || changes.list.length === 0 ? null : changed(changes.before, changes.list)}
<section aria-labelledby="provenance">
<h2 id="provenance" class="section">Provenance</h2>
<dl class="facts">
<dt>Verified by</dt><dd>this registry, ${new URL(shown.origin).host}, on ${date(kernel.published_at)}, before anybody could see the version</dd>
<dt>Signed by</dt><dd>${kernel.signers.map((s) => html`<span class="statement">${keyName(policy, s)} ${digest(s, "signer")}</span>`)}</dd>
<dt>Built by</dt><dd>${kernel.builders.map((b) => html`<code class="revision">${b}</code> `)}</dd>
<dt>From source</dt><dd>${link(kernel.source.repository)}<br><code class="revision">@ ${kernel.source.revision}</code></dd>
</dl>
</section>
<section aria-labelledby="statements">
<h2 id="statements" class="section">Statements it rests on</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Table of statements">
<table>
<thead><tr><th scope="col">About</th><th scope="col">Signed with</th><th scope="col">Digest of the statement</th><th scope="col">Signed bundle</th></tr></thead>
<tbody>${kernel.statements.map(
    (s) => html`
<tr><th scope="row">${s.scope === "index" ? "whole version" : s.variant}</th><td>${keyName(policy, s.signer)} ${digest(s.signer, "signer")}</td><td>${digest(s.payload)}</td><td><a href="${bundlePath(shown, s.bundle.digest)}" download>Download</a></td></tr>`,
  )}
</tbody>
</table>
</div>
${offline(shown, policy)}
</section>
<section aria-labelledby="verdict">
<h2 id="verdict" class="section">Why the registry accepted it</h2>
<ul class="verdict">${requirement(kernel.verdict)}</ul>
</section>
</div>`;
}

export function bundlePath(shown: Shown, bundle: string): string {
  return `${versionPath(shown)}/bundles/${bundle}`;
}

/** The policy's name for a key, where it still has one. */
export function keyName(policy: Policy, signer: string): Html | null {
  const key = [...policy.keys.values()].find((one) => one.fingerprint === signer);
  return key === undefined ? null : html`<b>${key.id}</b>`;
}

function changed(before: string, list: readonly TrustChange[]): Html {
  return html`<div class="banner" role="note"><p><b>Trust changed since ${before}.</b> The namespace’s policy allowed it; see that you expected it.</p>
<ul>${list.map((c) => html`<li>${c.what}: <code class="revision">${c.before.join(", ")}</code> became <code class="revision">${c.after.join(", ")}</code></li>`)}</ul></div>`;
}

function offline(shown: Shown, policy: Policy): Html | null {
  const { document: kernel, origin, visibility } = shown;
  const whole = kernel.statements.find((s) => s.scope === "index") ?? kernel.statements[0];
  if (whole === undefined) return null;
  const authorization = visibility === "private" ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const key = [...policy.keys.values()].find((one) => one.fingerprint === whole.signer);
  return html`<h3 class="section" id="offline">Verify it yourself, offline</h3>
<pre tabindex="0"><code>curl -sf${authorization} -o bundle.json \\
  ${origin}${bundlePath(shown, whole.bundle.digest)}
kernlock verify-bundle --bundle bundle.json \\
  ${how(whole)} \\
  ${whole.subject}</code></pre>
${
  key === undefined
    ? null
    : html`<details><summary>The public key <b>${key.id}</b></summary>
<p class="hint">Compare its fingerprint with one that did not come from this registry.</p>
<pre tabindex="0"><code>${String(key.publicKey.export({ type: "spki", format: "pem" })).trimEnd()}</code></pre></details>`
}`;
}

/** A signer is a key's fingerprint, or issuer and subject of a certificate. */
function how({ signer }: AcceptedStatement): string {
  const space = signer.indexOf(" ");
  return space < 0
    ? "--key publisher.pem"
    : `--certificate-oidc-issuer ${signer.slice(0, space)} --certificate-identity ${signer.slice(space + 1)}`;
}

/** A branch that is met is folded where it goes into detail. */
function requirement(node: Requirement): Html {
  const mark = html`<span class="${node.ok ? "yes" : "no"}">${node.ok ? "met" : "not met"}</span> ${node.requirement}`;
  if (node.children.length === 0) return html`<li>${mark}</li>`;
  const inner = html`<ul>${node.children.map(requirement)}</ul>`;
  const leaves = node.children.every((child) => child.children.length === 0);
  return leaves && node.ok && node.children.length > 1
    ? html`<li><details><summary>${mark} <span class="count">(${node.children.length})</span></summary>${inner}</details></li>`
    : html`<li>${mark}${inner}</li>`;
}
