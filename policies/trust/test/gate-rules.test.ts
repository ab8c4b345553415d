import { describe, expect, test } from "vitest";
import { allowedLibraries, type KernelFacts, narrow, permits, type VariantFacts } from "../index.ts";
import { kernel } from "./material.ts";
import { outcome, policyWith } from "./rules.ts";

function facts(contents: Partial<NonNullable<VariantFacts["contents"]>> = {}, license = "Apache-2.0"): KernelFacts {
  const all = { payloads: ["shared-object" as const], ptx: false, license: "Apache-2.0", ...contents };
  return { ...kernel, license, variants: kernel.variants.map((variant) => ({ ...variant, contents: all })) };
}
/** Nobody has read its variant.json. */
const unknown: KernelFacts = {
  ...kernel,
  variants: kernel.variants.map(({ key, manifest }) => ({ key, manifest })),
};
const of = (rule: string, given: KernelFacts) => outcome(policyWith(rule), [], { kernel: given });

describe("licences", () => {
  const rule = "licenses: [Apache-2.0, MIT]";
  test("of index and variants have to be among those of the rule", () => {
    expect(of(rule, facts())).toBe("allowed");
    expect(of(rule, facts({}, "GPL-3.0-only"))).toBe("KL_VERDICT_LICENSE");
    expect(of(rule, facts({ license: "LicenseRef-Private" }))).toBe("KL_VERDICT_LICENSE");
    expect(of(rule, facts({ license: "Apache-2.0 AND MIT" }))).toBe("KL_VERDICT_LICENSE");
  });
  test("that are not known are refused", () => expect(of(rule, unknown)).toBe("KL_VERDICT_LICENSE"));
});

describe("payload kinds", () => {
  const rule = "payloads: [device-image]";
  test("have to be among those of the rule", () => {
    expect(of(rule, facts({ payloads: ["device-image"] }))).toBe("allowed");
    expect(of(rule, facts())).toBe("KL_VERDICT_PAYLOAD");
    expect(of(rule, facts({ payloads: ["device-image", "shared-object"] }))).toBe("KL_VERDICT_PAYLOAD");
  });
  test("that are not known are refused", () => expect(of(`${rule}\nptx: true`, unknown)).toBe("KL_VERDICT_PAYLOAD"));
});

test("PTX is refused unless a rule allows it", () => {
  expect(of("", facts({ ptx: true }))).toBe("KL_VERDICT_PTX");
  expect(of("ptx: false", facts({ ptx: true }))).toBe("KL_VERDICT_PTX");
  expect(of("", unknown)).toBe("KL_VERDICT_PTX");
  expect(of("ptx: true", facts({ ptx: true }))).toBe("allowed");
});

test("what a driver may compile is what every enforced rule permits", () => {
  const permitted = (policy: Parameters<typeof permits>[0], name = "acme/norm") => permits(policy, name).ptx;
  const [yes, no] = [policyWith("ptx: true"), policyWith()];
  expect([permitted(yes), permitted(no), permitted(policyWith("ptx: false"))]).toEqual([true, false, false]);
  // About a package of which no rule speaks, nothing is permitted.
  expect(permitted(yes, "other/norm")).toBe(false);
  expect([permitted(narrow(yes, yes)), permitted(narrow(yes, no)), permitted(narrow(no, yes))]).toEqual([
    ...[true, false, false],
  ]);
  // A rule that only warns lets the variant pass, and permits nothing.
  const warns = policyWith("mode: warn\nptx: true");
  expect(permitted(warns)).toBe(false);
  expect(permits(yes, "acme/norm").untested).toBe(false);
});

test("versions below the oldest safe one are refused, prereleases of it too", () => {
  expect(of('minimumVersion: "1.2.3"', kernel)).toBe("allowed");
  expect(of('minimumVersion: "1.2.4-rc.1"', kernel)).toBe("KL_VERDICT_MINIMUM_VERSION");
  expect(of('minimumVersion: "1.2.3"', { ...kernel, version: "1.2.3" })).toBe("allowed");
  expect(of('minimumVersion: "1.10.0"', kernel)).toBe("KL_VERDICT_MINIMUM_VERSION");
});

test("a cool-down fails closed where no trusted clock speaks", () => {
  expect(of("minimumAgeDays: 1", kernel)).toBe("KL_VERDICT_NO_TRUSTED_TIME");
});

test("libraries are what every rule that matches allows", () => {
  const wide = policyWith("libraries: [libc.so.6, libm.so.6]");
  const tight = policyWith("libraries: [libc.so.6]");
  expect(allowedLibraries(policyWith(), "acme/norm")).toBeUndefined();
  expect(allowedLibraries(wide, "other/norm")).toBeUndefined();
  expect(allowedLibraries(wide, "acme/norm")).toEqual(["libc.so.6", "libm.so.6"]);
  expect(allowedLibraries(narrow(wide, tight), "acme/norm")).toEqual(["libc.so.6"]);
  expect(allowedLibraries(narrow(tight, wide), "acme/norm")).toEqual(["libc.so.6"]);
  expect(allowedLibraries(policyWith("libraries: []"), "acme/norm")).toEqual([]);
});
