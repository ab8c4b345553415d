/** The variant matrix: backends and their levels down, architectures across. */
import { isTested } from "@kernlock/kernels/format";
import type { VariantDocument, VersionDocument } from "../publish/documents.ts";
import { type Html, html } from "./html.ts";
import { bytes, counted, digest } from "./layout.ts";

export interface Cell {
  readonly variant: VariantDocument;
  readonly row: string;
  readonly columns: readonly string[];
}

export function cellsOf(kernel: Pick<VersionDocument, "variants">): Cell[] {
  return kernel.variants.map(cellOf);
}

/** A CPU variant stands in the column of its instruction set, a CUDA variant in that of each architecture it has code for. */
function cellOf(variant: VariantDocument): Cell {
  const { backend } = variant;
  switch (backend.kind) {
    case "cpu":
      return { variant, row: `CPU, ${backend.level}`, columns: [variant.platform.arch] };
    case "cuda":
      return {
        variant,
        row: `CUDA, driver ${backend.driver}`,
        columns: [...backend.architectures, ...backend.ptx.map((target) => `PTX ${target}`)],
      };
  }
}

export function matrixSection(kernel: VersionDocument): Html {
  const cells = cellsOf(kernel);
  const rows = distinct(cells.map((cell) => `${cell.row}\n${system(cell.variant)}`));
  const [host, devices] = [true, false].map((cpu) =>
    distinct(cells.filter((c) => (c.variant.backend.kind === "cpu") === cpu).flatMap((cell) => cell.columns)),
  );
  const columns = [...host!, ...devices!];
  return html`<section aria-labelledby="variants">
<h2 id="variants" class="section">Variants</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Variant matrix">
<table class="matrix">
<thead><tr><th scope="col">Backend</th>${columns.map((column) => html`<th scope="col">${column}</th>`)}</tr></thead>
<tbody>${rows.map((row) => {
    const [backend, needs] = row.split("\n");
    const inRow = cells.filter((cell) => cell.row === backend && system(cell.variant) === needs);
    return html`
<tr><th scope="row">${backend}<span class="needs">${needs}</span></th>${columns.map((column) => {
      const here = inRow.filter((cell) => cell.columns.includes(column));
      return html`<td>${here.length === 0 ? html`<span class="none">none</span>` : here.map((cell) => variantCell(cell.variant))}</td>`;
    })}</tr>`;
  })}
</tbody>
</table>
</div>
</section>`;
}

function variantCell(variant: VariantDocument): Html {
  return html`<div class="cell"><b>${variant.variant.split("-").flatMap((part, i) => (i === 0 ? [part] : [html`-<wbr>`, part]))}</b>
<span>${bytes(payloadSize(variant))}, ${counted(variant.ops.length, "op")}, ${testedMark(variant)}</span>
${digest(variant.manifest.digest, "manifest")}</div>`;
}

export function testedMark(variant: VariantDocument): Html {
  return wasTested(variant) ? html`<span class="yes">tested</span>` : html`<span class="no">not tested</span>`;
}

export function wasTested(variant: VariantDocument): boolean {
  return isTested(variant as Parameters<typeof isTested>[0]);
}

export const payloadSize = (variant: VariantDocument): number =>
  variant.files.reduce((sum, file) => sum + file.size, 0);

const system = ({ platform }: VariantDocument): string =>
  `${platform.os} ${platform.arch}, ${platform.libc.family} ${platform.libc.minimum}`;

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)].sort();
}
