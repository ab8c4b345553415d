/** Runs cases inside of vitest: each in every place where it has to be refused. */
import { afterAll, describe, expect, test } from "vitest";
import { loadNative } from "../../loader/native/index.ts";
import { newKey } from "../../policies/trust/test/material.ts";
import { refusal } from "../../registry-server/test/material.ts";
import { type Attack, isStrike, type Keys, type Twist } from "./attack.ts";
import { attempt, honestPolicy, type Place, registryState, serverFor } from "./places.ts";

export const keys: Keys = { publisher: newKey(), other: newKey(), auditor: newKey(), second: newKey() };

/** With this set to a file's name, what refuses is written there instead of being compared: to write new cases. */
const found = process.env.ATTACKS_FOUND ? ([] as string[]) : undefined;

export function runAttacks(title: string, attacks: readonly Attack[]): void {
  describe(title, () => {
    test("names no attack twice", () => {
      const names = attacks.map(({ name }) => name);
      expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
    });
    for (const attack of attacks) {
      const label = attack.number === "own" ? attack.name : `${attack.number}: ${attack.name}`;
      test(label, async () => {
        // The addon must be there before descriptors and maps are counted.
        await loadNative();
        const how = attack.how(keys);
        for (const [place, code] of Object.entries(attack.refused) as [Place, string][]) {
          const result = isStrike(how) ? await strike(how.strike) : await attempt(place, how as Twist, keys);
          if (found)
            found.push(`${attack.name} @ ${place}: ${result.code}${result.code === code ? "" : `  NOT ${code}`}`);
          else expect(result.code, `at ${place}`).toBe(code);
          expect(result.after, `what ${place} left`).toEqual(result.before);
        }
      });
    }
  });
  if (found) {
    afterAll(async () => {
      const { writeFileSync } = await import("node:fs");
      writeFileSync(process.env.ATTACKS_FOUND!, found.join("\n"), { flag: "a" });
    });
  }
}

async function strike(
  prepare: (server: Awaited<ReturnType<typeof serverFor>>, keys: Keys) => Promise<() => Promise<Response | string>>,
) {
  const server = await serverFor(honestPolicy(keys));
  const blow = await prepare(server, keys);
  const before = registryState(server.folder);
  const answer = await blow();
  const code =
    typeof answer === "string"
      ? (/"code":"(KL_[A-Z_]+)"/.exec(answer)?.[1] ?? answer)
      : answer.ok
        ? "no refusal"
        : (await refusal(answer))[2];
  // A body that broke off is cleared away a moment after its answer.
  for (let wait = 0; wait < 500 && registryState(server.folder).join() !== before.join(); wait++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { code, before, after: registryState(server.folder) };
}
