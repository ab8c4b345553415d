import { expect, test } from "vitest";
import { matches } from "../policy.ts";

test.each([
  ["acme/norm", "acme/norm", true],
  ["acme-corp/liger-rmsnorm", "acme-corp/liger-rmsnorm", true],
  ["acme-corp/*", "acme-corp/norm", true],
  ["acme-*/fa3-*", "acme-corp/fa3-sinks", true],
  ["acme.corp/*", "acme-corp/norm", false],
  ["acme/*", "acme/deeper/norm", false],
  ["acme/*", "evil-acme/norm", false],
  ["acme/norm", "acme/norm-evil", false],
])("the pattern %s and the package %s", (pattern, name, expected) => {
  expect(matches(pattern, name)).toBe(expected);
});
