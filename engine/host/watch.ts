/** What benchmarks want to know about steps while they run. */
import type { Watch, Watched } from "../client/protocol.ts";
import type { Device } from "../native/index.ts";
import { addRouted } from "./routes.ts";
import type { Part } from "./scheduler.ts";
import type { Begun, InPieces, Sampled, StepTimes } from "./step.ts";

export interface Watcher {
  readonly what: Watch;
  /** The device has had nothing to do. */
  begin(): void;
  /** A step's results are there. */
  ended(step: Begun<Sampled>): void;
  /** The first step of its kind is about to begin, and stages are to be timed. */
  wantsStages(parts: readonly Part<Sampled>[]): boolean;
  timed(parts: readonly Part<Sampled>[], times: StepTimes): void;
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
  let stages: Watched["stages"] = [];
  const tokensOf = (parts: readonly Part<Sampled>[]): number => parts.reduce((sum, { count }) => sum + count, 0);
  const kindOf = (parts: readonly Part<Sampled>[]): Omit<Watched["stages"][number], keyof StepTimes> => ({
    bucket: parts.every(({ count }) => count === 1) ? "decode" : "mixed",
    tokens: tokensOf(parts),
    sequences: parts.length,
  });
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
      const taken = { ms: now - since, busyMs: Math.max(0, busyNow - busy) };
      steps.push({ ...kindOf(step.parts), ...taken });
      [since, busy] = [now, busyNow];
    },
    wantsStages(parts) {
      const { bucket, tokens, sequences } = kindOf(parts);
      const known = (one: (typeof stages)[number]): boolean =>
        one.bucket === bucket && one.tokens === tokens && one.sequences === sequences;
      return what === "stages" && !stages.some(known);
    },
    timed(parts, times) {
      stages.push({ ...kindOf(parts), ...times });
    },
    inPieces(step) {
      if (what === "experts") {
        experts.push({ bucket: step.bucket, tokens: tokensOf(step.parts), distinct: [...step.distinct] });
      }
      addRouted(routing, step.routed);
      return step;
    },
    watch(next) {
      const { free, total, inUse, mostUsed } = device.memory();
      const found = { steps, experts, stages, routing, memory: { free, total, given: inUse, used: mostUsed } };
      [what, steps, experts, stages, routing] = [next, [], [], [], { followed: 0, otherwise: 0, furthest: 0 }];
      return found;
    },
  };
}
