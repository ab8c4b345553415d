import { describe, expect, test } from "vitest";
import { mutateBytes } from "./mutate.ts";
import { random } from "./random.ts";
import { behaviour, makeTargets } from "./targets.ts";
import { mutated } from "./worker.ts";

const targets = await makeTargets();

test("there are fourteen targets", () => expect(new Set(targets.map(({ name }) => name)).size).toBe(14));

describe.each(targets)("$name", (target) => {
  test("understands its first seed", () => {
    expect(behaviour(target, target.seeds[0]!)).toContain("accepted");
  });

  test("answers a few hundred mutants with understanding or a coded refusal, in the same words each time", () => {
    const r = random(1);
    const inputs = Array.from({ length: 250 }, (_, n) =>
      n % 2 === 0 ? mutated(target.seeds, r) : mutateBytes(r.pick(target.seeds), r, target.seeds),
    );
    const words = inputs.map((input) => behaviour(target, input));
    expect(new Set(words).size).toBeGreaterThan(2);
    expect(inputs.map((input) => behaviour(target, input))).toEqual(words);
  });
});
