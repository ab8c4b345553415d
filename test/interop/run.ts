/**
 * `npm run interop`: unmodified clients of others against a real registry, and their bundles against ours. Prints a
 * table and ends with 1 when a row came out otherwise than it should. `--no-build` leaves out what is not built yet;
 * `--write` puts versions and table into docs/interop.md, between its two marks.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/project.ts";
import { cosignRows } from "./cosign.ts";
import { ociRows } from "./oci.ts";
import { makeStage } from "./stage.ts";
import { asMarkdown, asText, type Row } from "./table.ts";
import { find, type Tool } from "./tools.ts";

const flags = new Set(process.argv.slice(2));
const tool = (name: Tool) => find(name, !flags.has("--no-build"));
const tools = {
  ...{ cosign: tool("cosign"), oras: tool("oras"), skopeo: tool("skopeo"), crane: tool("crane") },
  ...{ fulcio: tool("fulcio"), posix: tool("posix"), "timestamp-server": tool("timestamp-server") },
};
const folder = mkdtempSync(join(tmpdir(), "kernlock-interop-"));
const rows: Row[] = [];
try {
  await using stage = await makeStage(folder);
  rows.push(...(await cosignRows(stage, tools)));
  rows.push(...(await ociRows(stage, tools)));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const names: Readonly<Record<string, string>> = { posix: "rekor-tiles", "timestamp-server": "timestamp-authority" };
const versions = Object.entries(tools)
  .map(([name, found]) => `${names[name] ?? name} ${found?.version ?? "not here"}`)
  .join(", ");
const wrong = rows.filter(({ right }) => right === false).length;
const skipped = rows.filter(({ right }) => right === null).length;
const sum = `${rows.length - wrong - skipped} rows as expected, ${wrong} otherwise, ${skipped} left out.`;
console.log(`${asText(rows)}\n${versions}, Node ${process.versions.node}\n${sum}`);
if (flags.has("--write")) {
  const page = join(root, "docs", "interop.md");
  const [begin, end] = ["<!-- npm run interop: begin -->", "<!-- end -->"];
  const [before, rest = ""] = readFileSync(page, "utf8").split(begin);
  const after = rest.slice(rest.indexOf(end));
  const day = new Date().toISOString().slice(0, 10);
  const go = spawnSync("go", ["env", "GOVERSION"], { encoding: "utf8" }).stdout?.trim();
  const head = `On ${day}, with ${versions} (those in Go built with ${go}), Node ${process.versions.node}:`;
  writeFileSync(page, `${before}${begin}\n${head}\n\n${asMarkdown(rows)}\n\n${sum}\n${after}`);
}
if (wrong > 0) process.exitCode = 1;
