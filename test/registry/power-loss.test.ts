/** Some moments of one publish; `npm run chaos -- -t "power loss"` tries the moments of 200. */
import { expect, test } from "vitest";
import { prepare } from "./chaos/lab.ts";
import { gaps, nothingYet, packagesOf, record, tryPowerLoss } from "./disk/power.ts";
import { newFolder } from "./drivers.ts";

test.each(["native", "javascript"] as const)(
  "what was acknowledged outlives a loss of power, and nothing is there in part (%s bodies)",
  { timeout: 300_000 },
  async (transfers) => {
    const prepared = newFolder();
    const access = await prepare(prepared);
    const trace = await record(prepared, access, packagesOf(7), { transfers });
    expect(gaps(prepared, trace)).toEqual([]);
    const outcome = nothingYet();
    await tryPowerLoss(prepared, access, trace, { take: 10, seed: 7 }, outcome);
    expect(outcome).toMatchObject({ points: 10, states: 20, lost: [], partial: [], unsound: 0 });
    expect(outcome.acknowledged).toBeGreaterThan(0);
  },
);
