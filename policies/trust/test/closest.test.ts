import { describe, expect, it } from "vitest";
import { allOf, closest, leaf, problem } from "../judge/tree.ts";

const other = allOf("an audit", [
  leaf("its signature holds"),
  leaf("it is SLSA provenance v1", problem("KL_VERDICT_PREDICATE", "another kind")),
]);
const revoked = allOf("provenance", [
  leaf("its signature holds", problem("KL_VERDICT_REVOKED", "its key was revoked")),
]);

describe("the reason that a refusal gives", () => {
  it("is that of the statement that was meant, not of one of another kind that got further", () => {
    expect(closest([other, revoked])?.code).toBe("KL_VERDICT_REVOKED");
  });

  it("is the other kind's where there is nothing else", () => {
    expect(closest([other])?.code).toBe("KL_VERDICT_PREDICATE");
  });
});
