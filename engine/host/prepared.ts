/** What a host does before it knows the plan: opening a GPU takes longer than verifying the kernels that will run on it. */
import type { Driver, Timeline } from "../client/protocol.ts";
import type { Device, Memory } from "../native/index.ts";
import { openPlanned } from "./engine.ts";
import { ring } from "./weights.ts";

export interface Prepared {
  readonly device: Device;
  readonly driver: Promise<Driver | null>;
  /** Pinned memory that weights will pass through. */
  readonly pinned: Memory;
}

/**
 * The driver, a context and staging memory. Nothing of it depends on a kernel, and no kernel's descriptor has arrived; the
 * driver compiles no PTX, so a plan that wants that needs another host. The host confines itself afterwards, as always:
 * when it is told the plan, and before it loads the first kernel.
 * @throws KL_DEVICE_DRIVER, KL_DEVICE_OPEN, KL_MEMORY_ALLOCATE
 */
export function prepare(device: `cuda:${number}`, timeline: Stopwatch): Prepared {
  const opened = openPlanned({ device, workers: 1 }, false);
  timeline.mark("driver and context");
  const pinned = opened.device.allocateHost(ring.slots * ring.slotBytes, false);
  timeline.mark("staging memory");
  return { ...opened, pinned };
}

export interface Stopwatch {
  readonly parts: Timeline;
  /** What was done since the last mark. */
  mark(name: string): void;
  /** So many milliseconds of what is being done. */
  note(name: string, ms: number): void;
  /** What is done beside the rest. */
  beside<T>(name: string, work: Promise<T>): Promise<T>;
}

/** Begins with this process. */
export function startStopwatch(): Stopwatch {
  const parts: Timeline = [];
  let since = 0;
  const add = (name: string, begin: number, end: number): void =>
    void parts.push({ name, at: performance.timeOrigin + begin, ms: end - begin });
  return {
    parts,
    mark(name) {
      const now = performance.now();
      add(name, since, now);
      since = now;
    },
    note: (name, ms) => add(name, since, since + ms),
    async beside(name, work) {
      const begin = performance.now();
      const result = await work;
      add(`(beside: ${name})`, begin, performance.now());
      return result;
    },
  };
}
