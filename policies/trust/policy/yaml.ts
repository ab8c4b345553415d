import { fail } from "@kernlock/kernels/format";
import { type Document, parseAllDocuments, visit } from "yaml";

const maxBytes = 256 << 10;

/** One document of plain YAML 1.2 (core schema) that means what a person reads. Throws KL_POLICY_SYNTAX. */
export function readYaml(policy: Uint8Array | string): unknown {
  const bytes = typeof policy === "string" ? Buffer.from(policy) : policy;
  if (bytes.byteLength > maxBytes) refuse(`it has more than ${maxBytes} bytes`);
  let problem: string | undefined;
  let value: unknown;
  try {
    const source = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    const documents = parseAllDocuments(source, { version: "1.2", schema: "core", uniqueKeys: true, stringKeys: true });
    const [document, ...others] = Array.from(documents as Iterable<Document>);
    if (document === undefined || others.length > 0) problem = "it must hold exactly one document";
    else {
      problem = document.errors[0]?.message ?? document.warnings[0]?.message ?? forbidden(source, document);
      value = problem === undefined ? document.toJS({ maxAliasCount: 0 }) : undefined;
    }
  } catch {
    problem = "it cannot be parsed";
  }
  return problem === undefined ? value : refuse(problem.split("\n")[0] ?? "");
}

function refuse(problem: string): never {
  return fail("KL_POLICY_SYNTAX", `The policy is not acceptable YAML: ${problem}.`, {
    remedy: "Correct the policy file; docs/policy.md describes it.",
  });
}

/** What YAML allows and a policy does not. */
function forbidden(source: string, document: Document): string | undefined {
  if (/^%/m.test(source)) return "directives are not allowed";
  let found: string | undefined;
  visit(document, {
    Alias: () => {
      found = "aliases are not allowed";
      return visit.BREAK;
    },
    Value: (_, node) => {
      if (node.anchor !== undefined) found = "anchors are not allowed";
      else if (node.tag !== undefined) found = "tags are not allowed";
      return found === undefined ? undefined : visit.BREAK;
    },
    Pair: (_, { key }) => {
      const name = (key as { value?: unknown } | null)?.value;
      // The one name that objects treat as more than a name.
      if (name === "__proto__" || name === "<<") found = `the key ${String(name)} is not allowed`;
      return found === undefined ? undefined : visit.BREAK;
    },
  });
  return found;
}
