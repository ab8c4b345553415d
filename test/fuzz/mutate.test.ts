import { expect, test } from "vitest";
import { mutateBytes, mutateField } from "./mutate.ts";
import { random } from "./random.ts";

const honest = { a: [1, "two", { b: null }], c: true, d: "x".repeat(20), e: {} };

test("the same seed gives the same mutants, and nearly all of them differ from the honest one", () => {
  const mutants = (seed: number) =>
    Array.from({ length: 500 }, (_, n) => JSON.stringify(mutateField(honest, random(seed + n))));
  expect(mutants(7)).toEqual(mutants(7));
  expect(mutants(7).filter((text) => text === JSON.stringify(honest)).length).toBeLessThan(75);
  expect(new Set(mutants(7)).size).toBeGreaterThan(150);
  const bytes = Buffer.from(JSON.stringify(honest));
  const changed = Array.from({ length: 500 }, (_, n) => mutateBytes(bytes, random(n)).toString("hex"));
  expect(changed.filter((hex) => hex === bytes.toString("hex")).length).toBeLessThan(75);
  expect(JSON.stringify(honest)).toBe(bytes.toString());
});
