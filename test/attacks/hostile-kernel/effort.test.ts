import { expect, it } from "vitest";
import { confinementEffort } from "../../../cli/plan-flags.ts";

it("confines by best effort only where every policy says so", () => {
  const best = { confinement: "best-effort" } as const;
  const required = { confinement: "required" } as const;
  expect(confinementEffort({})).toBe("required");
  expect(confinementEffort(required)).toBe("required");
  expect(confinementEffort(best)).toBe("best-effort");
  expect(confinementEffort({ ...best, above: best })).toBe("best-effort");
  expect(confinementEffort({ ...best, above: required })).toBe("required");
  expect(confinementEffort({ ...best, above: {} })).toBe("required");
  expect(confinementEffort({ above: best })).toBe("required");
});
