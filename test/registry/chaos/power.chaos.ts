import { expect, test } from "vitest";
import { gaps, nothingYet, packagesOf, record, tryPowerLoss } from "../disk/power.ts";
import { newFolder } from "../drivers.ts";
import { count, prepare, report } from "./lab.ts";

test("power loss: writes that were not synced are dropped", async () => {
  const traces = count("TRACES", 200);
  const take = count("POINTS", 10);
  // So that several runs can share the work.
  const first = count("SEED", 1);
  const prepared = newFolder();
  const access = await prepare(prepared);
  const outcome = nothingYet();
  let withGaps = 0;
  for (let seed = first; seed < first + traces; seed++) {
    const trace = await record(prepared, access, packagesOf(seed));
    withGaps += gaps(prepared, trace).length;
    // The first one at every moment.
    await tryPowerLoss(prepared, access, trace, { take: seed === 1 ? Number.POSITIVE_INFINITY : take, seed }, outcome);
  }
  const { lost, partial, ...numbers } = outcome;
  report("power loss", {
    seeds: [first, first + traces - 1],
    traces,
    ...numbers,
    lost: lost.length,
    partial: partial.length,
    gaps_in_the_record: withGaps,
    examples: [...lost, ...partial].slice(0, 3),
  });
  expect([lost, partial, outcome.unsound, withGaps]).toEqual([[], [], 0, 0]);
});
