/** A variant's bill of materials (CycloneDX) as a table. What it says is its publisher's word, and shown as such. */
import { parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import type { Context } from "../context.ts";
import type { VariantDocument } from "../publish/documents.ts";
import { type Html, html } from "./html.ts";
import { digest } from "./layout.ts";

export interface Part {
  readonly name: string;
  readonly version: string | null;
  /** As CycloneDX has it: file, library, framework, … */
  readonly kind: string;
  readonly license: string | null;
  /** SHA-256 in hexadecimal digits. */
  readonly sha256: string | null;
  readonly from: string | null;
}

export interface Bill {
  readonly format: string;
  readonly parts: readonly Part[];
  /** How many parts are not shown. */
  readonly more: number;
}

const maxBytes = 2 << 20;
const maxParts = 300;
const text = z.string().max(500);
const component = z.looseObject({
  type: text.optional(),
  name: text,
  version: text.optional(),
  purl: text.optional(),
  licenses: z
    .array(
      z.looseObject({
        expression: text.optional(),
        license: z.looseObject({ id: text.optional(), name: text.optional() }).optional(),
      }),
    )
    .optional(),
  hashes: z.array(z.looseObject({ alg: text, content: text })).optional(),
  externalReferences: z.array(z.looseObject({ type: text, url: text })).optional(),
  properties: z.array(z.looseObject({ name: text, value: text.optional() })).optional(),
});
const document = z.looseObject({
  bomFormat: z.literal("CycloneDX"),
  specVersion: text,
  components: z.array(component).max(10_000).default([]),
});

/** Undefined for what is no CycloneDX document that can be read. */
export function readBill(bytes: Uint8Array): Bill | undefined {
  let given: unknown;
  try {
    given = parseStrictJson(bytes, { maxBytes, maxDepth: 32, what: "The bill of materials" });
  } catch {
    return undefined;
  }
  const read = document.safeParse(given).data;
  if (read === undefined) return undefined;
  const { components, specVersion } = read;
  return {
    format: `CycloneDX ${specVersion}`,
    parts: components.slice(0, maxParts).map(partOf),
    more: Math.max(0, components.length - maxParts),
  };
}

function partOf(one: z.infer<typeof component>): Part {
  const licenses = (one.licenses ?? []).flatMap((l) => l.expression ?? l.license?.id ?? l.license?.name ?? []);
  const system = one.properties?.find(({ name }) => name === "dev.kernlock.provided-by")?.value === "system";
  return {
    name: one.name,
    version: one.version ?? null,
    kind: one.type ?? "part",
    license: licenses.length === 0 ? null : licenses.join(", "),
    sha256: one.hashes?.find(({ alg }) => alg === "SHA-256")?.content ?? null,
    from: system
      ? "the machine it runs on"
      : (one.externalReferences?.find(({ type }) => type === "distribution")?.url ?? one.purl ?? null),
  };
}

/** The bills of the variants, by the digest of their file; read anew for every page, since few look. */
export async function billsOf(context: Context, variants: readonly VariantDocument[]): Promise<Map<string, Bill>> {
  const bills = new Map<string, Bill>();
  for (const file of variants.flatMap((v) => v.files)) {
    if (file.kind !== "sbom" || file.size > maxBytes || bills.has(file.digest)) continue;
    const bill = readBill(await context.blobs.readAll(file.digest));
    if (bill !== undefined) bills.set(file.digest, bill);
  }
  return bills;
}

/** `download` makes the address of a file. */
export function billSection(
  v: VariantDocument,
  bills: ReadonlyMap<string, Bill>,
  download: (digest: string) => string,
): Html {
  const files = v.files.filter(({ kind }) => kind === "sbom");
  return html`<h3 class="section">Bill of materials</h3>
${
  files.length === 0
    ? html`<p class="hint">This variant brings none. Whoever loads it may ask for one in their policy.</p>`
    : files.map((file) => {
        const bill = bills.get(file.digest);
        const raw = html`<a href="${download(file.digest)}" download>${file.path}</a>`;
        if (bill === undefined)
          return html`<p class="hint">${raw} is no CycloneDX document that can be shown here.</p>`;
        return html`<p class="hint">${raw}, ${bill.format}, as its publisher wrote it.${bill.more > 0 ? ` ${bill.more} more parts are in the file.` : null}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Bill of materials of ${v.variant}"><table>
<thead><tr><th scope="col">Part</th><th scope="col">Version</th><th scope="col">Licence</th><th scope="col">Kind</th><th scope="col">From</th><th scope="col">SHA-256</th></tr></thead>
<tbody>${bill.parts.map(
          (part) => html`
<tr><th scope="row">${part.name}</th><td>${part.version ?? "–"}</td><td>${part.license ?? "–"}</td><td>${part.kind}</td><td>${part.from === null ? "–" : html`<span class="clip">${part.from}</span>`}</td><td>${part.sha256 === null ? "–" : digest(part.sha256)}</td></tr>`,
        )}
</tbody></table></div>`;
      })
}`;
}
