import { expect, test } from "vitest";
import { readMachineFacts } from "../client/machine.ts";
import { cpuFacts } from "../native/index.ts";

test("what is read without native code agrees with what the processor says", () => {
  const machine = readMachineFacts();
  expect(machine).toMatchObject({ os: "linux", arch: "x86_64", cpu: cpuFacts() });
  expect(machine.libc.family).toBe("glibc");
  expect(machine.libc.version).toMatch(/^\d+\.\d+$/);
  expect(machine.memory.available).toBeGreaterThan(0);
  expect(machine.memory.available).toBeLessThanOrEqual(machine.memory.total);
  expect(machine.cuda).toBeUndefined();
});
