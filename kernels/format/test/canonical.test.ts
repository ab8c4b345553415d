import { expect, test } from "vitest";
import { canonicalJson, KernlockError, parseStrictJson, prettyJson } from "../index.ts";

test("sorts keys by UTF-16 code units and writes numbers as RFC 8785 does", () => {
  const value = { "€": 1, "\r": 2, "1": 3, "😀": 4, "\u0080": 5, ö: 6, ﬀ: 7 };
  expect(canonicalJson(value)).toBe('{"\\r":2,"1":3,"\u0080":5,"ö":6,"€":1,"😀":4,"ﬀ":7}');
  expect(canonicalJson([333333333.3333333, 1e21, 4.5, 2e-3, 1e-27, -0])).toBe(
    "[333333333.3333333,1e+21,4.5,0.002,1e-27,0]",
  );
});

test("leaves out undefined members and writes empty containers in one piece", () => {
  expect(canonicalJson({ b: undefined, a: [], c: {} })).toBe('{"a":[],"c":{}}');
  expect(prettyJson({ b: [1, { d: 2 }], a: {} })).toBe(
    '{\n  "a": {},\n  "b": [\n    1,\n    {\n      "d": 2\n    }\n  ]\n}\n',
  );
});

test("is read back by the strict parser", () => {
  const value = { text: 'quote " and \\ and \u2028', list: [true, null, 1.5], nested: { z: 1, a: "é" } };
  expect(parseStrictJson(canonicalJson(value))).toEqual(value);
  expect(parseStrictJson(prettyJson(value))).toEqual(value);
});

const loop: unknown[] = [];
loop.push(loop);
test.each([
  ["NaN", Number.NaN],
  ["infinity", Number.POSITIVE_INFINITY],
  ["a bigint", 1n],
  ["undefined in a list", [undefined]],
  ["a function", () => 1],
  ["a date", new Date(0)],
  ["a map", new Map()],
  ["a lone surrogate", "\ud800"],
  ["a key with a lone surrogate", { "\udc00": 1 }],
  ["a loop", loop],
])("refuses %s", (_, value) => {
  expect(() => canonicalJson(value)).toThrow(KernlockError);
});
