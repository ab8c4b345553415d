/** One node at a time. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Kit } from "./kit.ts";

const leaseMs = 60_000;

/**
 * One node at a time works on a package. A node that dies lets go of it after a minute. Undefined when `settled` came
 * true meanwhile: then another node did it.
 */
export async function inTurn<T>(
  { context: { records, now }, closing }: Pick<Kit, "context" | "closing">,
  repository: string,
  settled: () => Promise<boolean>,
  work: () => Promise<T>,
): Promise<T | undefined> {
  const name = `mirror:${repository}`;
  const holder = randomBytes(8).toString("hex");
  const hold = () => {
    const time = now();
    return records.takeLease(name, holder, time.toISOString(), new Date(time.getTime() + leaseMs).toISOString());
  };
  while (!(await hold())) {
    await sleep(100, undefined, { signal: closing });
    if (await settled()) return undefined;
  }
  const renew = setInterval(() => void hold().catch(() => {}), leaseMs / 3).unref();
  try {
    return (await settled()) ? undefined : await work();
  } finally {
    clearInterval(renew);
    await records.dropLease(name, holder);
  }
}
