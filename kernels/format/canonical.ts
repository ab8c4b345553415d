import { fail } from "./errors.ts";

/**
 * Canonical JSON (RFC 8785): keys sorted by UTF-16 code units, no spaces, numbers as ECMAScript prints them.
 * Members that are undefined are left out. Throws `KL_JSON_VALUE` for what JSON cannot say.
 */
export function canonicalJson(value: unknown): string {
  return write(value, "", "", 0);
}

/** Canonical JSON for people and for diffs: sorted keys, two spaces, a newline at the end. */
export function prettyJson(value: unknown): string {
  return `${write(value, "\n", "  ", 0)}\n`;
}

function write(value: unknown, newline: string, indent: string, depth: number): string {
  if (depth > 256) fail("KL_JSON_VALUE", "A value is nested too deeply, or in itself, to be written as JSON.");
  const colon = newline === "" ? ":" : ": ";
  const wrap = (open: string, members: readonly string[], close: string): string => {
    if (members.length === 0) return open + close;
    const inner = newline + indent.repeat(depth + 1);
    return open + members.map((m) => inner + m).join(",") + newline + indent.repeat(depth) + close;
  };
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) fail("KL_JSON_VALUE", "A string with a lone surrogate cannot be written as JSON.");
      return JSON.stringify(value);
    case "boolean":
      return String(value);
    case "number":
      if (!Number.isFinite(value)) fail("KL_JSON_VALUE", `The number ${value} cannot be written as JSON.`);
      return JSON.stringify(value);
    case "object": {
      if (value === null) return "null";
      if (Array.isArray(value)) {
        return wrap(
          "[",
          value.map((v) => write(v, newline, indent, depth + 1)),
          "]",
        );
      }
      const prototype = Object.getPrototypeOf(value);
      if (prototype !== Object.prototype && prototype !== null) {
        fail("KL_JSON_VALUE", "An object with a class cannot be written as JSON.");
      }
      const members = Object.keys(value)
        .sort()
        .filter((key) => (value as Record<string, unknown>)[key] !== undefined)
        .map((key) => {
          const member = (value as Record<string, unknown>)[key];
          return write(key, "", "", 0) + colon + write(member, newline, indent, depth + 1);
        });
      return wrap("{", members, "}");
    }
    default:
      return fail("KL_JSON_VALUE", `A value of type ${typeof value} cannot be written as JSON.`);
  }
}
