import type { SealedKernel } from "@kernlock/loader";
import type { Plan } from "@kernlock/policies/compatibility";
import type { Effort } from "../confine/types.ts";
import { addonPath } from "../native/addon.ts";
import { startHost } from "./host.ts";
import type { Driver, Tested } from "./protocol.ts";

export type { Tested } from "./protocol.ts";

export interface SelftestOptions {
  readonly kernels: readonly SealedKernel[];
  readonly device: Plan["device"];
  readonly workers: number;
  /** Of the random inputs. */
  readonly seed: number;
  readonly effort: Effort;
  /** Whether the driver compiles PTX: `compiledPtx` says for which kernels it has to. Default no. */
  readonly compilePtx?: boolean;
  readonly onTested: (result: Tested) => void;
}

/**
 * Runs every op of sealed kernels on random inputs, in a host of its own, against the double-precision references.
 * Returns the driver that was used; null on a CPU. What an op does wrong is told, not thrown.
 * @throws KL_LOAD_*, KL_DEVICE_*, KL_ENGINE_DIED
 */
export async function testOps({
  kernels,
  device,
  workers,
  seed,
  effort,
  compilePtx = false,
  onTested,
}: SelftestOptions): Promise<Driver | null> {
  addonPath();
  const fds: number[] = [];
  const hosted = kernels.map(({ name, version, manifest, variant, files }) => ({
    ...{ name, version, digest: manifest, variant },
    files: files.map(({ path, fd }) => ({ path, fd: fds.push(fd) - 1 })),
  }));
  const done = Promise.withResolvers<Driver | null>();
  const host = startHost(
    {
      onMessage(message) {
        if (message.type === "tested") onTested(message);
        if (message.type === "ready") done.resolve(message.driver);
      },
      onEnd: (reason) => done.reject(reason),
    },
    { effort, cuda: device !== "cpu" },
  );
  host.begin({ type: "selftest", device, workers, kernels: hosted, compilePtx, seed }, fds);
  try {
    return await done.promise;
  } finally {
    await host.close();
  }
}
