import { expect, test } from "vitest";
import { type MachineFacts, plan } from "../index.ts";
import { five, machine, model, request } from "./facts.ts";

const on = (confinement: MachineFacts["confinement"], effort?: "required" | "best-effort") =>
  plan({
    model,
    kernels: five,
    machine: confinement === undefined ? machine : { ...machine, confinement },
    request: effort === undefined ? request : { ...request, confinement: effort },
  }).device;

test("a machine that cannot confine kernels runs none, unless the policy takes best effort", () => {
  const refused = expect.objectContaining({ code: "KL_CONFINE_UNAVAILABLE", row: "C1" });
  for (const lacking of [
    { landlock: 0, seccomp: true },
    { landlock: 7, seccomp: false },
  ]) {
    expect(() => on(lacking)).toThrow(refused);
    expect(() => on(lacking, "required")).toThrow(refused);
    expect(on(lacking, "best-effort")).toBe("cpu");
  }
  expect(on({ landlock: 1, seccomp: true })).toBe("cpu");
});

test("where nobody has looked, a plan can be made all the same", () => {
  expect(on(undefined)).toBe("cpu");
});
