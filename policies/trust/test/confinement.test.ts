import { describe, expect, it } from "vitest";
import { parsePolicy } from "../index.ts";
import { narrow } from "../policy.ts";

const policy = (line: string) => `version: 1\nkeys: {}\nrules: []\nnumerics: { allowDequantization: false }\n${line}`;

describe("confinement", () => {
  it("is required unless the policy says best-effort", () => {
    expect(parsePolicy(policy("")).confinement).toBe("required");
    expect(parsePolicy(policy("confinement: required")).confinement).toBe("required");
    expect(parsePolicy(policy("confinement: best-effort")).confinement).toBe("best-effort");
  });

  it("can be loosened only where the policy above says so too", () => {
    const best = parsePolicy(policy("confinement: best-effort"));
    const silent = parsePolicy(policy(""));
    expect(narrow(best, best).confinement).toBe("best-effort");
    expect(narrow(best, silent).confinement).toBe("required");
    expect(narrow(silent, best).confinement).toBe("required");
  });

  it("has no third word", () => {
    expect(() => parsePolicy(policy("confinement: none"))).toThrowError(
      expect.objectContaining({ code: expect.stringMatching(/^KL_POLICY_/) }),
    );
  });
});
