/** What benchmarks want to know about steps while they run. */
import type { Watch, Watched } from "../client/protocol.ts";
import type { Device } from "../native/index.ts";
import { addRouted } from "./routes.ts";
import type { Begun, InPieces, Sampled } from "./step.ts";

export interface Watcher {
  readonly what: Watch;
  /** The device has had nothing to do. */
  begin(): void;
  /** A step's results are there. */
  ended(step: Begun<Sampled>): void;
  /** A step in pieces is done. */
  inPieces<S extends Sampled>(step: InPieces<S>): Begun<S>;
  watch(what: Watch): Watched;
}

export function createWatcher(device: Device): Watcher {
  let what: Watch = "nothing";
  let steps: Watched["steps"] = [];
  let experts: Watched["experts"] = [];
  let routing: Watched["routing"] = { followed: 0, otherwise: 0, furthest: 0 };
  let since = 0;
  let busy = 0;
  const tokensOf = ({ parts }: Begun<Sampled>): number => parts.reduce((sum, { count }) => sum + count, 0);
  return {
    get what() {
      return what;
    },
    begin() {
      since = performance.now();
      busy = device.busy();
    },
    ended(step) {
      if (what !== "times") return;
      const [now, busyNow] = [performance.now(), device.busy()];
      const { bucket, parts } = step;
      const taken = { ms: now - since, busyMs: Math.max(0, busyNow - busy) };
      steps.push({ bucket, tokens: tokensOf(step), sequences: parts.length, ...taken });
      [since, busy] = [now, busyNow];
    },
    inPieces(step) {
      if (what === "experts") {
        experts.push({ bucket: step.bucket, tokens: tokensOf(step), distinct: [...step.distinct] });
      }
      addRouted(routing, step.routed);
      return step;
    },
    watch(next) {
      const { free, total, inUse, mostUsed } = device.memory();
      const found = { steps, experts, routing, memory: { free, total, given: inUse, used: mostUsed } };
      [what, steps, experts, routing] = [next, [], [], { followed: 0, otherwise: 0, furthest: 0 }];
      return found;
    },
  };
}
