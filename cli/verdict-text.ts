import type { Requirement, Verdict } from "@kernlock/policies/trust";

/** A verdict as an outline for people: what was required, what was found, and why it did or did not do. */
export function verdictText(verdict: Verdict, options: { readonly all?: boolean } = {}): string {
  const lines = [...outline(verdict.tree, "", options.all ?? true)];
  if (verdict.mode === "break-glass") lines.push("", "ALLOWED ONLY BY A BREAK-GLASS ORDER");
  for (const { kind, requirement, reason, expires, signers } of verdict.waivers) {
    lines.push(`waived: ${requirement}, by ${kind} until ${expires}, signed by ${signers.join(", ")}: ${reason}`);
  }
  for (const warning of verdict.warnings) {
    lines.push("warning:", ...outline(warning, "  ", false));
  }
  return `${lines.join("\n")}\n`;
}

function* outline(node: Requirement, indent: string, all: boolean): Generator<string> {
  const mark = node.ok ? (node.waivedBy === undefined ? "yes" : "waived") : "NO";
  const found = node.found === undefined ? "" : `: ${node.found}`;
  const evidence = node.evidence === undefined ? "" : ` [${node.evidence}]`;
  yield `${indent}${mark}  ${node.requirement}${found}${node.ok ? evidence : ""}`;
  // A node repeats its child's reason; it is said where it belongs, at the end of the branch.
  const said = node.children.some(({ ok }) => !ok);
  if (node.code !== undefined && !(said && node.waivedBy === undefined)) {
    yield `${indent}      ${node.code}: ${node.reason ?? ""}`;
  }
  if (node.waivedBy !== undefined) yield `${indent}      by ${node.waivedBy}`;
  // Where one of several statements did, the others are noise unless asked for.
  const shown = all ? node.children : node.children.filter(({ ok }) => !ok || !node.ok);
  for (const child of shown) yield* outline(child, `${indent}  `, all);
}
