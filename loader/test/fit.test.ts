/** Which variants a load takes on a machine with GPUs, by NVIDIA's rules and by what the policy permits. */
import type { Variant } from "@kernlock/kernels/format";
import { architecturesOf, ptxRunsOn, runsOn } from "@kernlock/policies/compatibility";
import { describe, expect, test } from "vitest";
import { compiledHere, misfit } from "../fit.ts";
import type { LoadMachine } from "../types.ts";

const platform = { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } } as const;
const variantOf = (architectures: string[], ptx: string[], driver = "13.0"): Variant =>
  ({ platform, backend: { kind: "cuda", architectures, ptx, driver } }) as unknown as Variant;
const machineOf = (...capabilities: string[]): LoadMachine => ({
  os: "linux",
  arch: "x86_64",
  libc: { family: "glibc", version: "2.36" },
  cpu: { level: "x86-64-v3" },
  ...(capabilities.length === 0
    ? {}
    : { cuda: { driver: "13.0", architectures: [...new Set(capabilities.flatMap(architecturesOf))] } }),
});
const h100 = machineOf("9.0");
const [allowed, forbidden] = [{ ptx: true }, { ptx: false }];

describe("machine code", () => {
  test("for the GPU is taken, and nothing is compiled, whatever PTX lies beside it", () => {
    for (const permits of [allowed, forbidden]) {
      expect(misfit(variantOf(["sm_90a"], []), h100, permits)).toBeNull();
      expect(misfit(variantOf(["sm_80", "sm_90"], ["sm_80"]), h100, permits)).toBeNull();
    }
    expect(compiledHere(variantOf(["sm_80", "sm_90"], ["sm_80"]), h100)).toEqual([]);
  });
  test("for another GPU, without a driver, for a newer driver: each has its code", () => {
    const foreign = misfit(variantOf(["sm_80"], []), h100, allowed);
    expect(foreign).toEqual({ code: "KL_LOAD_GPU", reason: "It is for sm_80." });
    expect(misfit(variantOf(["sm_90a"], []), machineOf(), allowed)).toMatchObject({ code: "KL_LOAD_NO_CUDA" });
    expect(misfit(variantOf(["sm_90a"], [], "13.1"), h100, allowed)).toMatchObject({ code: "KL_LOAD_DRIVER" });
  });
});

describe("PTX alone", () => {
  test("is taken when and only when the policy permits it", () => {
    for (const variant of [variantOf([], ["sm_90"]), variantOf(["sm_80"], ["sm_80"]), variantOf([], ["sm_90a"])]) {
      expect(misfit(variant, h100, allowed)).toBeNull();
      expect(misfit(variant, h100, forbidden)).toEqual({
        code: "KL_LOAD_GPU",
        reason: "It has only PTX for this GPU, which the policy does not permit.",
      });
    }
  });
  test("for a newer or another GPU is not, whatever the policy says", () => {
    for (const ptx of [["sm_100"], ["sm_89a"], ["sm_100a"], ["sm_100f"], ["nonsense"]]) {
      const reason = `It is for PTX ${ptx[0]}.`;
      expect(misfit(variantOf([], ptx), h100, allowed)).toEqual({ code: "KL_LOAD_GPU", reason });
    }
  });
  test("does not make a driver newer, and is nothing without one", () => {
    expect(misfit(variantOf([], ["sm_90"], "13.1"), h100, allowed)).toMatchObject({ code: "KL_LOAD_DRIVER" });
    expect(misfit(variantOf([], ["sm_90"]), machineOf(), allowed)).toMatchObject({ code: "KL_LOAD_NO_CUDA" });
    expect(compiledHere(variantOf([], ["sm_90"]), machineOf())).toEqual([]);
  });
  test("that a driver compiles here is named", () => {
    expect(compiledHere(variantOf(["sm_80"], ["sm_80", "sm_100"]), h100)).toEqual(["sm_80"]);
  });
});

test.each(["7.5", "8.0", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"])(
  "on %s the planner says the same",
  (capability) => {
    const machine = machineOf(capability);
    const all = ["70", "75", "80", "86", "89", "90", "100", "103", "110", "120", "121"].flatMap((number) =>
      ["", "a", "f"].map((mark) => `sm_${number}${mark}`),
    );
    // There is no `a` and no `f` below 9.0.
    for (const target of all.filter((one) => /\d$/.test(one) || Number(/\d+/.exec(one)![0]) >= 90)) {
      expect(misfit(variantOf([], [target]), machine, allowed) === null, `PTX ${target}`).toBe(
        ptxRunsOn(target, capability),
      );
      expect(misfit(variantOf([target], []), machine, allowed) === null, target).toBe(runsOn(target, capability));
    }
  },
);
