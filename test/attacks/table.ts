/** `npm run attacks:table`: writes docs/security/attacks.md from the cases. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Area, type Attack, areas } from "./attack.ts";
import { attacks, noArchives, open, shownElsewhere } from "./cases/index.ts";

export const file = join(resolve(import.meta.dirname, "../.."), "docs", "security", "attacks.md");

/** One code for several places is said once. */
function refusals({ refused }: Attack): string {
  const byCode = new Map<string, string[]>();
  for (const [place, code] of Object.entries(refused)) byCode.set(code, [...(byCode.get(code) ?? []), place]);
  return [...byCode].map(([code, places]) => `${places.join(", ")}: ${code}`).join("; ");
}

const order = ({ number }: Attack): number => (number === "own" ? 1000 : number);
const escaped = (text: string): string => text.replaceAll("|", "\\|");

export function table(): string {
  const sections = (Object.entries(areas) as [Area, string][]).map(([area, title]) => {
    const rows = attacks
      .filter((attack) => attack.area === area)
      .sort((a, b) => order(a) - order(b))
      .map((attack) => `| ${attack.number} | ${escaped(attack.name)} | ${refusals(attack)} |`);
    return `## ${title}\n\n| Number | Attack | Refused, with |\n|---|---|---|\n${rows.join("\n")}\n`;
  });
  const elsewhere = shownElsewhere.map(([number, name, shown]) => `| ${number} | ${name} | ${shown} |`);
  return `# Attacks

Made by \`npm run attacks:table\` from \`test/attacks/cases\`; do not edit. ${attacks.length} attacks, each made for real and
tried where it says: what is hostile is hashed, locked and signed anew with a trusted key, so that the check under test
is what refuses. Each test also sees that nothing was written (the digests in cache and registry are the same before and
after) and that no memory file stayed open or mapped. Numbers are those of the list of attacks that the design began
with; "own" ones came later.

Places: \`publish\` (a registry server), \`lock\` (\`kernlock lock\`), \`fetch\`, \`verify\`, \`load\`.

${sections.join("\n")}
## Shown elsewhere

| Number | Attack | Where |
|---|---|---|
${elsewhere.join("\n")}

## Without an object

${noArchives}: attacks on archives. Packages are one blob a file, and nothing that is locked or loaded is ever unpacked.

## Open

${open.map(([numbers, what]) => `- ${numbers}: ${what}`).join("\n")}
`;
}

if (import.meta.main) {
  mkdirSync(resolve(file, ".."), { recursive: true });
  writeFileSync(file, table());
}
