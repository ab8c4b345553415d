/**
 * What GPUs this machine has, without running any native code of ours: asked of `nvidia-smi`, which comes with the driver,
 * or, where that is missing, of a process that opens the driver and ends.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { architectureOf, architecturesOf, type Gpu, type MachineFacts } from "@kernlock/policies/compatibility";
import { z } from "zod";

type Cuda = NonNullable<MachineFacts["cuda"]>;

/** Where the driver's installers put it; the caller's PATH is not asked. */
const places = ["/usr/bin", "/usr/local/nvidia/bin", "/usr/local/bin", "/opt/bin", "/usr/lib/wsl/lib"];
const fields = ["index", "name", "compute_cap", "memory.total", "memory.free", "driver_version"];

/** Undefined where there is no driver, or it has no device. */
export function readCuda(): Cuda | undefined {
  const smi = places.map((place) => join(place, "nvidia-smi")).find((path) => existsSync(path));
  if (smi !== undefined) {
    const devices = parseDevices(run(smi, [`--query-gpu=${fields.join()}`, "--format=csv,noheader,nounits"]));
    const version =
      devices.length === 0 ? null : (parseCudaVersion(run(smi, ["--version"])) ?? parseCudaVersion(run(smi, [])));
    if (version !== null) return cudaOf(version, devices);
  }
  return existsSync("/proc/driver/nvidia/version") || existsSync("/dev/nvidiactl") ? probed() : undefined;
}

function cudaOf(driver: string, devices: readonly Gpu[]): Cuda {
  const architectures = [...new Set(devices.flatMap(({ capability }) => architecturesOf(capability)))];
  return { driver, architectures, devices };
}

/** Lines of the query above. A device in a state where it cannot say something ("[N/A]") cannot be used. */
export function parseDevices(csv: string): Gpu[] {
  const devices = csv
    .split("\n")
    .map((line) => line.split(",").map((field) => field.trim()))
    .filter(([index, , capability]) => /^\d+$/.test(index ?? "") && /^\d+\.\d$/.test(capability ?? ""))
    .map(([index, name, capability, total, free]) => ({
      index: Number(index),
      name: name!,
      capability: capability!,
      architecture: architectureOf(capability!),
      memory: mib(total),
      ...(free !== undefined && /^\d+$/.test(free) ? { available: mib(free) } : {}),
    }));
  return devices.sort((a, b) => a.index - b.index).map(({ index: _, ...device }) => device);
}

const mib = (text: string | undefined): number => (/^\d+$/.test(text ?? "") ? Number(text) * 2 ** 20 : 0);

/** The highest CUDA version that the driver runs, as `nvidia-smi` prints it. */
export const parseCudaVersion = (text: string): string | null =>
  /CUDA Version\s*:\s*(\d+\.\d+)/.exec(text)?.[1] ?? null;

function run(path: string, args: readonly string[]): string {
  const ran = spawnSync(path, args, { encoding: "utf8", env: {}, timeout: 20_000 });
  return ran.status === 0 ? ran.stdout : "";
}

const probeOutput = z.object({
  driver: z.string().regex(/^\d+\.\d+$/),
  devices: z.array(
    z.object({
      name: z.string(),
      capability: z.string().regex(/^\d+\.\d$/),
      memory: z.number(),
      available: z.number(),
    }),
  ),
});

/** A driver without `nvidia-smi`, as in small containers. */
function probed(): Cuda | undefined {
  const probe = join(import.meta.dirname, import.meta.filename.endsWith(".ts") ? "gpu-probe.ts" : "gpu-probe.js");
  const ran = spawnSync(process.execPath, [probe], { encoding: "utf8", env: { CUDA_DEVICE_ORDER: "PCI_BUS_ID" } });
  try {
    const { driver, devices } = probeOutput.parse(JSON.parse(ran.stdout));
    return devices.length === 0
      ? undefined
      : cudaOf(
          driver,
          devices.map((device) => ({ ...device, architecture: architectureOf(device.capability) })),
        );
  } catch {
    return undefined;
  }
}

const makers: Readonly<Record<string, string>> = { "0x1002": "AMD", "0x8086": "Intel" };

/** Display controllers that are not NVIDIA's, by maker and device number. */
export function readOtherGpus(root = "/sys/bus/pci/devices"): string[] {
  try {
    return readdirSync(root).flatMap((name) => {
      const read = (file: string): string => readFileSync(join(root, name, file), "utf8").trim();
      const maker = makers[read("vendor")];
      return maker !== undefined && read("class").startsWith("0x03") ? [`${maker} ${read("device")}`] : [];
    });
  } catch {
    return [];
  }
}
