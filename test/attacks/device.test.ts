import { expect, test } from "vitest";
import { craftCubin } from "../../kernels/inspect/test/craft-cubin.ts";
import { deviceAttacks } from "./cases/device.ts";
import { attempt } from "./places.ts";
import { keys, runAttacks } from "./run.ts";

test.each(["publish", "lock", "verify", "load"] as const)("an honest device image passes at %s", async (place) => {
  expect((await attempt(place, { image: craftCubin() }, keys)).code).toBe("no refusal");
});
runAttacks("machine code: cubin, fatbin, launch data", deviceAttacks);
