/** What benchmarks want to know about steps while they run. */
import type { Watch, Watched } from "../client/protocol.ts";
import type { Device } from "../native/index.ts";
import type { Begun, Sampled } from "./step.ts";

export interface Watcher {
  readonly what: Watch;
  /** The device has had nothing to do. */
  begin(): void;
  /** A step's results are there. */
  ended(step: Begun<Sampled>): void;
  counted<S extends Sampled>(step: Begun<S> & { readonly distinct: readonly number[] }): Begun<S>;
  watch(what: Watch): Watched;
}

export function createWatcher(device: Device): Watcher {
  let what: Watch = "nothing";
  let steps: Watched["steps"] = [];
  let experts: Watched["experts"] = [];
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
    counted(step) {
      experts.push({ bucket: step.bucket, tokens: tokensOf(step), distinct: [...step.distinct] });
      return step;
    },
    watch(next) {
      const { free, total, inUse, mostUsed } = device.memory();
      const found = { steps, experts, memory: { free, total, given: inUse, used: mostUsed } };
      [what, steps, experts] = [next, [], []];
      return found;
    },
  };
}
