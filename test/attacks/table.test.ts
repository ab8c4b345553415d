import { readFileSync } from "node:fs";
import { errorCodes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { attacks, noArchives, open, shownElsewhere } from "./cases/index.ts";
import { file, table } from "./table.ts";

test("docs/security/attacks.md is what the cases say; `npm run attacks:table` writes it", () => {
  expect(readFileSync(file, "utf8")).toBe(table());
});

test("there are more attacks than were asked for, each refused somewhere with a code that is explained", () => {
  expect(attacks.length).toBeGreaterThan(110);
  for (const { name, refused } of attacks) {
    const codes = Object.values(refused);
    expect(codes.length, name).toBeGreaterThan(0);
    for (const code of codes) expect(Object.keys(errorCodes), name).toContain(code);
  }
});

test("every number from 1 to 112 has a place in the table", () => {
  const seen = new Set<number>(attacks.flatMap(({ number }) => (number === "own" ? [] : [number])));
  for (const [number] of shownElsewhere) seen.add(number);
  for (const part of `${open.map(([numbers]) => numbers).join(", ")}, ${noArchives}`.split(", ")) {
    const [first = 0, last = first] = part.split("-").map(Number);
    for (let number = first; number <= last; number++) seen.add(number);
  }
  expect(Array.from({ length: 112 }, (_, i) => i + 1).filter((number) => !seen.has(number))).toEqual([]);
});
