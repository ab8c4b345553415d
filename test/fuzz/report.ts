import type { LineCoverage } from "./coverage.ts";
import type { Fuzzed } from "./run.ts";

/** What a run of all targets showed, as a line and as a page. */
export function report(results: readonly Fuzzed[], seed: number): { summary: string; page: string } {
  const sorted = results.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const files = merge(results.map(({ coverage }) => coverage));
  const total = sum(Object.values(files));
  const found = results.flatMap(({ findings }) => findings).length;
  const runs = results.reduce((all, one) => all + one.runs, 0);
  const summary = `${runs} runs, ${found} findings, ${percent(total)} of the parsers' lines.`;
  const rows = sorted.map(
    ({ name, what, runs: count, seconds, behaviours, corpus, slowestMs, findings }) =>
      `| ${name} | ${what} | ${seconds} s | ${count} | ${Object.keys(behaviours).length} | ${corpus.length} | ${Math.round(slowestMs)} ms | ${findings.length} |`,
  );
  const coverage = Object.entries(files)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([file, lines]) => `| ${file} | ${percent(lines)} | ${missing(lines)} |`);
  const page = `# Fuzzing

Written by \`npm run fuzz -- SECONDS --report\`; do not edit. Every target takes hostile bytes and may answer in two ways:
it understands them, or it refuses with a coded error. Anything else (an untyped error, a worker that dies, an input on
which it does not come to an end) is a finding. Inputs are mutated bytes and fields of honest and of kept inputs; kept is
what behaves in a new way, and some of what reaches code that had not run. The seeds are made by the tests' own builders
(packages, bundles with keys, certificates, timestamps and log entries, compiled libraries, crafted cubins and fatbins).

${summary} Seed ${seed}, Node ${process.version}.

| Target | Takes | Time | Runs | Behaviours | Kept | Slowest | Findings |
|---|---|---|---|---|---|---|---|
${rows.join("\n")}

## Lines of the parsers that ran

| File | Ran | Not |
|---|---|---|
${coverage.join("\n")}
`;
  return { summary, page };
}

function merge(all: readonly Readonly<Record<string, LineCoverage>>[]): Record<string, LineCoverage> {
  const files: Record<string, { ran: Set<number>; all: Set<number> }> = {};
  for (const one of all) {
    for (const [name, lines] of Object.entries(one)) {
      files[name] ??= { ran: new Set(), all: new Set() };
      for (const line of lines.ran) files[name].ran.add(line);
      for (const line of lines.all) files[name].all.add(line);
    }
  }
  return Object.fromEntries(Object.entries(files).map(([name, f]) => [name, { ran: [...f.ran], all: [...f.all] }]));
}

const sum = (files: readonly LineCoverage[]): LineCoverage => ({
  ran: files.flatMap(({ ran }) => ran),
  all: files.flatMap(({ all }) => all),
});

const percent = ({ ran, all }: LineCoverage): string =>
  `${((100 * ran.length) / Math.max(1, all.length)).toFixed(1)} %`;

function missing({ ran, all }: LineCoverage): string {
  const done = new Set(ran);
  const lines = all.filter((line) => !done.has(line)).sort((a, b) => a - b);
  return lines.length > 12 ? `${lines.slice(0, 12).join(", ")}, ...` : lines.join(", ");
}
