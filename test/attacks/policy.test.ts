import { expect, test } from "vitest";
import { honestIdentity, identityAttacks } from "./cases/identity.ts";
import { policyAttacks } from "./cases/policy.ts";
import { attempt } from "./places.ts";
import { keys, runAttacks } from "./run.ts";

test.each(["publish", "lock", "verify", "load"] as const)("an honest package passes at %s", async (place) => {
  expect((await attempt(place, {}, keys)).code).toBe("no refusal");
  expect((await attempt(place, honestIdentity, keys)).code).toBe("no refusal");
});
runAttacks("certificates, timestamps and logs", identityAttacks);
runAttacks("policy", policyAttacks);
