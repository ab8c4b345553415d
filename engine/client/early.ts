/**
 * A host that is started before anybody knows what it will run, so that its own start and the opening of a GPU go on while
 * lock and policy are read and kernels are verified, judged and sealed. It is started and confined like any other and has
 * neither kernels nor weights: these are handed over with the plan, or never, when there is none.
 */
import type { MachineFacts, Plan, PlanRequest } from "@kernlock/policies/compatibility";
import type { Effort } from "../confine/types.ts";
import { addonPath } from "../native/addon.ts";
import { findDriver } from "../native/driver.ts";
import { type Host, type HostEvents, type HostOptions, startHost } from "./host.ts";

export { readMachineFacts } from "./machine.ts";
export type { Timeline } from "./protocol.ts";

/** A host whose messages go to whoever takes it. */
export interface UntakenHost {
  readonly host: Host;
  /** Resolves once it has prepared what it was told to, or has ended. */
  readonly settled: Promise<void>;
  /** Told at once where the host has ended already. */
  take(events: HostEvents): Host;
}

export function startUntaken(options: HostOptions): UntakenHost {
  let taker: HostEvents | null = null;
  let missed: Parameters<HostEvents["onEnd"]>[0] | null = null;
  const settled = Promise.withResolvers<void>();
  const host = startHost(
    {
      onMessage: (message, tail) => taker?.onMessage(message, tail),
      onPrepared: () => settled.resolve(),
      onEnd(reason) {
        missed = reason;
        settled.resolve();
        taker?.onEnd(reason);
      },
    },
    options,
  );
  return {
    host,
    settled: settled.promise,
    take(events) {
      taker = events;
      if (missed !== null) events.onEnd(missed);
      return host;
    },
  };
}

export interface EarlyHost extends AsyncDisposable {
  /** Null where none could be started, and once it has been taken or ended. */
  readonly pid: number | null;
  /** Tells the host which GPU it will probably use. Without one, nothing. */
  prepare(machine: MachineFacts): void;
  /** The host, once, if it is what this plan needs; null, and the host is gone, if another one has to be started. */
  takeFor(plan: Plan, effort: Effort): Promise<UntakenHost | null>;
}

/**
 * What is started early is confined in full: for a policy that is content with less it is not used. Never throws: what
 * stands in the way of a host is said by whoever needs one.
 */
export function startEarlyHost(asked: PlanRequest["device"]): EarlyHost {
  let untaken: UntakenHost | null = null;
  let cuda = false;
  let prepared: Plan["device"] | null = null;
  try {
    cuda = asked !== "cpu" && findDriver() !== null;
    untaken = startUntaken({ effort: "required", cuda });
  } catch {
    // Refused again, and then told, when the plan is there.
  }
  const end = async (): Promise<void> => {
    const { host } = untaken ?? {};
    untaken = null;
    await host?.end();
  };
  return {
    get pid() {
      return untaken?.host.pid ?? null;
    },
    prepare(machine) {
      const ordinal = Number(/^cuda:(\d+)$/.exec(asked)?.[1] ?? 0);
      if (!cuda || machine.cuda?.devices[ordinal] === undefined) return;
      try {
        // The host has neither a compiler nor the means to start one.
        addonPath();
      } catch {
        return;
      }
      prepared = `cuda:${ordinal}`;
      untaken?.host.send({ type: "prepare", device: prepared });
    },
    async takeFor(plan, effort) {
      const device = prepared ?? (cuda ? null : "cpu");
      // The driver of a prepared host compiles no PTX.
      const fits = effort === "required" && plan.device === device && plan.ptx.length === 0;
      if (!fits) await end();
      const taken = untaken;
      untaken = null;
      // Were it written to while it fails, what it said of that could be lost.
      if (prepared !== null) await taken?.settled;
      return taken;
    },
    [Symbol.asyncDispose]: end,
  };
}
