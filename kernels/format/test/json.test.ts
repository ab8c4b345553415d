import { describe, expect, test } from "vitest";
import { KernlockError, parseStrictJson, type StrictJsonOptions } from "../index.ts";

function codeOf(input: string | Uint8Array, options?: StrictJsonOptions): string {
  try {
    parseStrictJson(input, options);
  } catch (error) {
    if (error instanceof KernlockError) return error.code;
    throw error;
  }
  return "accepted";
}
const bytes = (...parts: (string | number)[]) =>
  Buffer.concat(parts.map((p) => (typeof p === "string" ? Buffer.from(p) : Buffer.from([p]))));

describe("strict JSON", () => {
  test.each([
    '{"a":[1,-2.5e3,true,false,null,"x\\n\\u00e9"]}',
    "[]",
    "{}",
    '""',
    "0",
    " \t\r\n1 ",
    '"\\ud83d\\ude00😀"',
  ])("reads what JSON.parse reads: %s", (text) => {
    expect(parseStrictJson(text)).toEqual(JSON.parse(text));
    expect(parseStrictJson(Buffer.from(text))).toEqual(JSON.parse(text));
  });

  test.each([
    ["a duplicate key", '{"a":1,"a":2}', "KL_JSON_DUPLICATE_KEY"],
    ["a duplicate key in disguise", '{"a":1,"\\u0061":2}', "KL_JSON_DUPLICATE_KEY"],
    ["a key that sets the prototype", '{"__proto__":{"admin":true}}', "KL_JSON_KEY"],
    ["the same in disguise", '{"\\u005f_proto__":1}', "KL_JSON_KEY"],
    ["trailing data", "{}{}", "KL_JSON_TRAILING"],
    ["a second line", "1\n2", "KL_JSON_TRAILING"],
    ["a byte order mark", "\uFEFF{}", "KL_JSON_SYNTAX"],
    ["a lone surrogate, escaped", '"\\ud800"', "KL_JSON_UTF8"],
    ["a lone surrogate, as it is", '"\ud800"', "KL_JSON_UTF8"],
    ["surrogates in the wrong order", '"\\ude00\\ud83d"', "KL_JSON_UTF8"],
    ["a number beyond doubles", "1e999", "KL_JSON_NUMBER"],
    ["an integer that a double would change", "9007199254740993", "KL_JSON_NUMBER"],
    ["the same written as a power", "1e30", "KL_JSON_NUMBER"],
    ["a number that would vanish", "1e-999", "KL_JSON_NUMBER"],
    ["a leading zero", "[01]", "KL_JSON_SYNTAX"],
    ["a bare point", "[.5]", "KL_JSON_SYNTAX"],
    ["a plus sign", "[+1]", "KL_JSON_SYNTAX"],
    ["a comma at the end", "[1,]", "KL_JSON_SYNTAX"],
    ["a comment", "{}//", "KL_JSON_TRAILING"],
    ["a single quote", "{'a':1}", "KL_JSON_SYNTAX"],
    ["NaN", "NaN", "KL_JSON_SYNTAX"],
    ["a control character in a string", '"a\nb"', "KL_JSON_SYNTAX"],
    ["an unknown escape", '"\\x41"', "KL_JSON_SYNTAX"],
    ["an escape named like an inherited member", '"\\constructor"', "KL_JSON_SYNTAX"],
    ["half an escape", '"\\u00e', "KL_JSON_SYNTAX"],
    ["an open string", '"abc', "KL_JSON_SYNTAX"],
    ["an open object", '{"a":1', "KL_JSON_SYNTAX"],
    ["nothing", "", "KL_JSON_SYNTAX"],
    ["a foreign space", "\u00a01", "KL_JSON_SYNTAX"],
    ["nesting without end", "[".repeat(100_000), "KL_JSON_DEPTH"],
  ])("refuses %s", (_, text, code) => {
    expect(codeOf(text)).toBe(code);
  });

  test("refuses bytes that are not UTF-8", () => {
    expect(codeOf(bytes('"', 0xff, '"'))).toBe("KL_JSON_UTF8");
    expect(codeOf(bytes('"', 0xc0, 0x80, '"'))).toBe("KL_JSON_UTF8");
    expect(codeOf(bytes('"', 0xed, 0xa0, 0x80, '"'))).toBe("KL_JSON_UTF8");
    expect(codeOf(bytes(0xef, 0xbb, 0xbf, "{}"))).toBe("KL_JSON_SYNTAX");
  });

  test("keeps to the limits it is given", () => {
    expect(codeOf("[[1]]", { maxDepth: 1 })).toBe("KL_JSON_DEPTH");
    expect(codeOf("[[1]]", { maxDepth: 2 })).toBe("accepted");
    expect(codeOf("[1234]", { maxBytes: 5 })).toBe("KL_JSON_SIZE");
    expect(parseStrictJson("1e30", { allowInexact: true })).toBe(1e30);
  });

  test("names like constructor are plain data", () => {
    const value = parseStrictJson('{"constructor":1,"toString":2}') as Record<string, unknown>;
    expect(value.constructor).toBe(1);
    expect(Object.keys(value)).toEqual(["constructor", "toString"]);
  });

  test("the message names the document and shortens what is hostile", () => {
    const key = "k".repeat(5000);
    expect(() => parseStrictJson(`{"${key}":1,"${key}":2}`, { what: "kernels.lock" })).toThrow(
      /^kernels\.lock names "k{80}" twice/,
    );
  });
});
