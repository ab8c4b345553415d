/**
 * `npm run interop`: unmodified clients of others against a real registry, and their bundles against ours. Prints a
 * table and ends with 1 when a row came out otherwise than it should. `--no-build` leaves out what is not built yet;
 * `--markdown` prints the table for docs/interop.md.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
console.log(flags.has("--markdown") ? asMarkdown(rows) : asText(rows));
const versions = Object.entries(tools).map(([name, found]) => `${name} ${found?.version ?? "not here"}`);
const wrong = rows.filter(({ right }) => right === false).length;
const skipped = rows.filter(({ right }) => right === null).length;
console.log(`${versions.join(", ")}, Node ${process.versions.node}`);
console.log(`${rows.length - wrong - skipped} as expected, ${wrong} otherwise, ${skipped} left out`);
if (wrong > 0) process.exitCode = 1;
