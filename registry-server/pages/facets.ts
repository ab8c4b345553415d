/** What search can be narrowed by. All of it stands in the address, so that a search can be passed on. */
import type { VersionDocument } from "../publish/documents.ts";
import type { KernelRow } from "../store/records.ts";
import { type Html, html } from "./html.ts";
import { here } from "./layout.ts";

export const facetNames = ["backend", "architecture", "license", "mode"] as const;
export type FacetName = (typeof facetNames)[number];
export type Facets = Readonly<Record<FacetName, readonly string[]>>;
export type Chosen = Readonly<Partial<Record<FacetName, string>>>;

const labels: Readonly<Record<FacetName, string>> = {
  backend: "Backend",
  architecture: "Architecture",
  license: "Licence",
  mode: "Mode",
};

export interface Hit {
  readonly kernel: KernelRow;
  readonly facets: Facets;
}

export function facetsOf(document: VersionDocument): Facets {
  const { variants } = document;
  const distinct = (values: readonly string[]) => [...new Set(values)].sort();
  return {
    backend: distinct(variants.map((v) => v.backend.kind)),
    architecture: distinct(
      variants.flatMap(({ backend }) => (backend.kind === "cpu" ? [backend.level] : backend.architectures)),
    ),
    license: [document.license],
    mode: distinct(variants.flatMap((v) => v.ops.map((op) => op.mode))),
  };
}

export function chosenOf(query: Readonly<Record<string, string | undefined>>): Chosen {
  return Object.fromEntries(
    facetNames.flatMap((facet) => {
      const value = query[facet]?.slice(0, 100);
      return value === undefined || value === "" ? [] : [[facet, value]];
    }),
  );
}

export function narrowed(hits: readonly Hit[], chosen: Chosen, except?: FacetName): Hit[] {
  return hits.filter(({ facets }) =>
    facetNames.every((name) => name === except || chosen[name] === undefined || facets[name].includes(chosen[name])),
  );
}

export function searchAddress(query: string, chosen: Chosen): string {
  const parameters = new URLSearchParams(query === "" ? {} : { q: query });
  for (const name of facetNames) if (chosen[name] !== undefined) parameters.set(name, chosen[name]);
  const text = parameters.toString();
  return text === "" ? "/" : `/?${text}`;
}

/** Links: a value narrows, the chosen one takes its narrowing back. */
export function facetNav(hits: readonly Hit[], query: string, chosen: Chosen): Html {
  return html`<nav class="facets" aria-label="Narrow the search">${facetNames.map((facet) => {
    const pool = narrowed(hits, chosen, facet);
    const values = [
      ...new Set([...pool.flatMap((hit) => hit.facets[facet]), ...(chosen[facet] ? [chosen[facet]] : [])]),
    ];
    if (values.length === 0) return null;
    return html`
<div><h2 class="section" id="facet-${facet}">${labels[facet]}</h2><ul aria-labelledby="facet-${facet}">${values
      .sort()
      .map((value) => {
        const on = chosen[facet] === value;
        const { [facet]: _, ...others } = chosen;
        const count = pool.filter((hit) => hit.facets[facet].includes(value)).length;
        return html`<li><a href="${searchAddress(query, on ? others : { ...others, [facet]: value })}"${on ? here : null}>${value}${on ? html` <span aria-hidden="true">×</span><span class="hidden">, remove</span>` : html` <span class="count">${count}</span>`}</a></li>`;
      })}</ul></div>`;
  })}
</nav>`;
}
