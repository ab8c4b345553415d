/** Audits, tests and other signed statements that came after the publish. Nothing is said of one whose signature does not hold. */
import { KernlockError, mediaTypes } from "@kernlock/kernels/format";
import { parseBundleManifest } from "@kernlock/kernels/oci";
import {
  auditType,
  describeBundle,
  type Policy,
  sbomType,
  testType,
  verifyBundle,
  vsaType,
} from "@kernlock/policies/trust";
import { z } from "zod";
import type { Context } from "../context.ts";
import { type Html, html } from "./html.ts";
import { date, digest } from "./layout.ts";
import { type Measured, measuredSchema, measuredSection } from "./measured.ts";
import { gridPlot } from "./plots.ts";
import { bundlePath, keyName } from "./provenance.ts";
import type { Shown } from "./subject.ts";

const kinds: Readonly<Record<string, string>> = {
  [auditType]: "audit",
  [testType]: "test",
  [sbomType]: "SBOM",
  [vsaType]: "summary",
};
const text = z.string().max(200);
const predicate = z.looseObject({
  result: text.optional(),
  verificationResult: text.optional(),
  kind: text.optional(),
  criteria: z.array(text).max(64).optional(),
  measured: measuredSchema.optional().catch(undefined),
  kernlock: z.looseObject({ suite: text.optional(), device: text.optional(), issued: text.optional() }).optional(),
});

export interface Attestation {
  /** "whole version" or a variant. */
  readonly about: string;
  readonly bundle: string;
  readonly kind: string;
  /** Undefined where the signature does not hold under the namespace's policy. */
  readonly said:
    | {
        readonly signer: string;
        readonly result: string;
        readonly detail: string;
        readonly suite: string | undefined;
        readonly device: string | undefined;
        readonly issued: string | undefined;
        readonly measured: Measured | undefined;
      }
    | undefined;
}

const maxAttestations = 100;
const maxBundleBytes = 4 << 20;

export async function attestationsOf(context: Context, shown: Shown, policy: Policy): Promise<Attestation[]> {
  const { document: kernel } = shown;
  const subjects = [
    { about: "whole version", digest: kernel.digest },
    ...kernel.variants.map((v) => ({ about: v.variant, digest: v.manifest.digest })),
  ];
  const accepted = new Set<string>(kernel.statements.map((s) => s.bundle.digest));
  const found: Attestation[] = [];
  for (const { about, digest: subject } of subjects) {
    for (const row of await context.records.referrers(kernel.name, subject)) {
      if (found.length >= maxAttestations) return found;
      // What hangs on a version that waits is as visible as that: to members.
      const shows = row.visible === 1 || (row.visible === 0 && shown.state === "staged");
      if (row.artifactType !== mediaTypes.bundle || !shows) continue;
      const { bundle } = parseBundleManifest(row.bytes);
      if (accepted.has(bundle.digest) || bundle.size > maxBundleBytes) continue;
      const bytes = await context.blobs.readAll(bundle.digest);
      found.push({ about, bundle: bundle.digest, ...read(bytes, subject, policy, context.now()) });
    }
  }
  return found;
}

function read(bytes: Uint8Array, subject: string, policy: Policy, now: Date): Pick<Attestation, "kind" | "said"> {
  const claimed = describeBundle(bytes)?.predicateType;
  const kind = claimed === undefined ? "unreadable" : (kinds[claimed] ?? "other");
  try {
    const { signer, statement } = verifyBundle(bytes, {
      keys: policy.keys.values(),
      identities: policy.identities.values(),
      ...(policy.times === undefined ? {} : { anchor: policy.times }),
      now,
    });
    const given = predicate.safeParse(statement.predicate).data;
    const named = statement.subject.length === 1 && `sha256:${statement.subject[0]!.digest.sha256}` === subject;
    if (!named || given === undefined) return { kind, said: undefined };
    const { suite, device, issued } = given.kernlock ?? {};
    return {
      kind,
      said: {
        signer: signer.kind === "key" ? signer.fingerprint : `${signer.issuer} ${signer.san}`,
        result: given.result ?? given.verificationResult ?? "–",
        detail: given.criteria?.join(", ") ?? [suite, device].filter(Boolean).join(" on "),
        suite,
        device,
        issued: issued !== undefined && !Number.isNaN(Date.parse(issued)) ? issued : undefined,
        measured: given.measured,
      },
    };
  } catch (error) {
    if (error instanceof KernlockError) return { kind, said: undefined };
    throw error;
  }
}

export function evidenceBody(shown: Shown, policy: Policy, attestations: readonly Attestation[]): Html {
  if (attestations.length === 0) {
    return html`<div class="single"><h2 class="section">Audits and tests</h2>
<p class="empty">Nobody has attached an audit or a test to this version yet. <code>kernlock attest</code> does.</p></div>`;
  }
  return html`<div class="single">
${testGrid(attestations)}
${measuredSection(shown, policy, attestations)}
<section aria-labelledby="attestations">
<h2 id="attestations" class="section">Signed statements</h2>
<p class="hint">Signatures were checked just now against the keys of the namespace’s policy. Which of these statements count is for the policy of whoever loads to say.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of statements">
<table>
<thead><tr><th scope="col">Kind</th><th scope="col">About</th><th scope="col">Says</th><th scope="col">Of</th><th scope="col">Signed with</th><th scope="col">Issued</th><th scope="col">Signed bundle</th></tr></thead>
<tbody>${attestations.map(
    ({ kind, about, bundle, said }) => html`
<tr><th scope="row">${kind}</th><td>${about}</td>${
      said === undefined
        ? html`<td colspan="4" class="prose"><span class="maybe">not verified</span> by a key that this namespace’s policy does not have, or about something else</td>`
        : html`<td>${outcome(said.result)}</td><td>${said.detail || "–"}</td><td>${keyName(policy, said.signer)} ${digest(said.signer, "signer")}</td><td>${said.issued === undefined ? "–" : date(said.issued)}</td>`
    }<td><a href="${bundlePath(shown, bundle)}" download>Download</a></td></tr>`,
  )}
</tbody>
</table>
</div>
</section>
</div>`;
}

const passed = (result: string) => /^pass(ed)?$/i.test(result);

function outcome(result: string): Html {
  return html`<span class="${passed(result) ? "yes" : /^(fail(ed)?|violation)$/i.test(result) ? "no" : "maybe"}">${result.toLowerCase()}</span>`;
}

/** Verified tests as a picture. The table of statements says the same. */
function testGrid(attestations: readonly Attestation[]): Html | null {
  const tests = attestations.flatMap(({ kind, said }) => (kind === "test" && said !== undefined ? [said] : []));
  if (tests.length === 0) return null;
  const distinct = (values: readonly string[]) => [...new Set(values)].sort().slice(0, 12);
  const suiteOf = (t: (typeof tests)[number]) => t.suite ?? "unnamed";
  const deviceOf = (t: (typeof tests)[number]) => t.device ?? "any device";
  const good = tests.filter((t) => passed(t.result)).length;
  return html`<section aria-labelledby="tests">
<h2 id="tests" class="section">Tests passed</h2>
${gridPlot(
  {
    id: "grid",
    title: "Tests by suite and device",
    description: `${good} of ${tests.length} passed. The table of signed statements names each.`,
  },
  distinct(tests.map(suiteOf)),
  distinct(tests.map(deviceOf)),
  (suite, device) => {
    const here = tests.filter((t) => suiteOf(t) === suite && deviceOf(t) === device);
    return here.length === 0 ? undefined : { passed: here.filter((t) => passed(t.result)).length, all: here.length };
  },
)}
</section>`;
}
