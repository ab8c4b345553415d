/** What a confined process may open. Kernels and weights are not among it: they are handed over as descriptors. */
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { findDriver } from "../native/driver.ts";

/** Paths; a folder stands for all below it. */
export interface Allowed {
  readonly read: readonly string[];
  readonly write?: readonly string[];
  readonly devices?: readonly string[];
}

const libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
const system = [
  ...libraries,
  "/etc/ld.so.cache",
  "/etc/localtime",
  "/usr/share/zoneinfo",
  "/proc/self",
  "/proc/cpuinfo",
  "/proc/meminfo",
  "/proc/stat",
  "/proc/sys/vm",
  "/sys/devices/system",
  "/sys/fs/cgroup",
  "/dev/urandom",
];
/** Besides, with a GPU. The driver names its threads (/proc/self/task), and fails when it may not. */
const driver = ["/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/proc/sys", "/sys/bus/pci", "/sys/module"];

const root = join(import.meta.dirname, "..", "..");
const engine = join(root, "engine");
const fromSources = import.meta.filename.endsWith(".ts");

export function allowedToHost(cuda: boolean): Allowed {
  // Bundled, they are inside of the program.
  const packages = fromSources ? ["@huggingface/tokenizers", "@huggingface/jinja", "zod"] : [];
  // Their names are part of the name of our own addons.
  const native = ["node-addon-api", "node-api-headers"];
  const ours = ["engine", "kernels", "policies"].map((area) => join(root, area));
  const read = [...system, ...ours, ...[...packages, ...native].map(packageFolder)];
  if (!cuda) return { read, write: ["/dev/null"] };
  return {
    read: [...read, ...driver, ...driverFolders()],
    write: ["/dev/null", "/proc/self/task"],
    devices: nvidiaDevices(),
  };
}

/** `files`: the modules that it runs. */
export const allowedToRenderer = (files: readonly string[]): Allowed => ({
  read: [
    ...[...system, ...files, join(engine, "package.json")],
    ...(fromSources ? [packageFolder("@huggingface/jinja")] : []),
  ],
  write: ["/dev/null"],
});

/** Found as Node finds it; real, since rules are about files and not about names. */
function packageFolder(name: string): string {
  for (let folder = engine; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(candidate)) return realpathSync(candidate);
    if (folder === dirname(folder)) return candidate;
  }
}

function nvidiaDevices(): string[] {
  return readdirSync("/dev")
    .filter((name) => name.startsWith("nvidia"))
    .map((name) => join("/dev", name));
}

/** Its library comes with others that it opens by name. */
function driverFolders(): string[] {
  const path = findDriver();
  return [...(path === null ? [] : [dirname(path)]), "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib"];
}
