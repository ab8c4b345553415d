import type { SealedKernel } from "@kernlock/loader";
import type { Mode, Plan } from "@kernlock/policies/compatibility";
import type { Effort } from "../confine/types.ts";
import { addonPath } from "../native/addon.ts";
import { startHost } from "./host.ts";
import type { BenchShape, Driver, Timed } from "./protocol.ts";

export type { BenchShape, Timed } from "./protocol.ts";

export interface BenchOptions {
  readonly kernels: readonly SealedKernel[];
  readonly device: Plan["device"];
  readonly workers: number;
  readonly shape: BenchShape;
  readonly mode: Mode;
  /** Token rows of the launches. */
  readonly tokens: readonly number[];
  /** Keys of each sequence that decodes. */
  readonly context: number;
  /** Names of ops; null: all. */
  readonly only: readonly string[] | null;
  /** Shorter, and less exact. */
  readonly quick: boolean;
  readonly seed: number;
  readonly effort: Effort;
  /** As for `testOps`. */
  readonly compilePtx?: boolean;
  readonly onTimed: (result: Timed) => void;
}

/**
 * Times every op of sealed kernels in a host of its own, and what the device copies in the same run (bytes a second, read
 * and written ones together). What an op does not run is told, not thrown.
 * @throws KL_LOAD_*, KL_DEVICE_*, KL_MEMORY_ALLOCATE, KL_ENGINE_DIED
 */
export async function benchOps(options: BenchOptions): Promise<{ driver: Driver | null; ceiling: number }> {
  addonPath();
  const { kernels, effort, compilePtx = false, onTimed, ...asked } = options;
  const fds: number[] = [];
  const hosted = kernels.map(({ name, version, manifest, variant, files }) => ({
    ...{ name, version, digest: manifest, variant },
    files: files.map(({ path, fd }) => ({ path, fd: fds.push(fd) - 1 })),
  }));
  const done = Promise.withResolvers<Driver | null>();
  let ceiling = 0;
  const host = startHost(
    {
      onMessage(message) {
        if (message.type === "ceiling") ceiling = message.bytesPerSecond;
        if (message.type === "timed") {
          const { type: _, ...timed } = message;
          onTimed(timed);
        }
        if (message.type === "ready") done.resolve(message.driver);
      },
      onEnd: (reason) => done.reject(reason),
    },
    { effort, cuda: asked.device !== "cpu" },
  );
  host.begin({ type: "bench", ...asked, compilePtx, kernels: hosted }, fds);
  try {
    return { driver: await done.promise, ceiling };
  } finally {
    await host.close();
  }
}
