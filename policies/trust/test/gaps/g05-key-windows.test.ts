import { expect, test } from "vitest";
import { trustedKey } from "../../keys.ts";
import { verifyBundle } from "../../verify.ts";
import { newPair } from "../authorities/certificates.ts";
import { bytesOf, newBundle, newRoot, newWorld, stockAccepts, trustedRoot } from "../authorities/index.ts";
import { codeOf } from "../material.ts";

const world = newWorld();
const pair = newPair();
const at = (time: string) => new Date(time);
const window = { validFrom: at("2026-02-01T00:00:00Z"), validUntil: at("2026-06-01T00:00:00Z") };
const key = trustedKey("old", pair.publicKey.export({ type: "spki", format: "pem" }) as string, window);

/** A bundle that was stamped at `stamped`, judged at `now`. */
function judged(stamped: string | null, now: string, times?: number) {
  const stamps = stamped === null ? {} : { stamps: (it: Buffer) => [world.tsa.stamp(it, at(stamped))] };
  const anchor = { root: trustedRoot(world), ...(times ? { demand: { times } } : {}) };
  const bytes = bytesOf(newBundle({ pair, ...stamps }));
  return codeOf(() => verifyBundle(bytes, { keys: [key], anchor, now: at(now) }));
}

test("G5: a key's window is compared with a proved time, or else with the caller's clock", () => {
  const expired = () => ({ publicKey: pair.publicKey, validFor: () => false });
  expect(stockAccepts(newBundle({ pair }), newRoot(world), expired)).toBe(true);

  expect(judged(null, "2026-03-01T00:00:00Z")).toBe("no refusal");
  expect(judged(null, "2026-11-24T00:00:00Z")).toBe("KL_BUNDLE_KEY_WINDOW");
  expect(judged(null, "2026-01-01T00:00:00Z")).toBe("KL_BUNDLE_KEY_WINDOW");
  // Signed while the key was valid, as an authority tells, and judged after it expired.
  expect(judged("2026-05-01T00:00:00Z", "2026-11-24T00:00:00Z")).toBe("no refusal");
  // Stamped too late: the clock of the caller cannot make that good.
  expect(judged("2026-07-01T00:00:00Z", "2026-03-01T00:00:00Z")).toBe("KL_BUNDLE_KEY_WINDOW");
});

test("G5: a policy can demand that the time is proved", () => {
  expect(judged(null, "2026-03-01T00:00:00Z", 1)).toBe("KL_BUNDLE_TIME");
  expect(judged("2026-05-01T00:00:00Z", "2026-11-24T00:00:00Z", 1)).toBe("no refusal");
});
