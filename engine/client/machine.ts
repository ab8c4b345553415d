import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import type { CpuLevel, MachineFacts } from "@kernlock/policies/compatibility";
import { readCuda, readOtherGpus } from "./gpus.ts";

/** Instruction sets of the x86-64 levels, by the names of /proc/cpuinfo (the psABI's list). */
const levels: readonly (readonly [CpuLevel, readonly string[]])[] = [
  ["x86-64-v2", ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]],
  ["x86-64-v3", ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]],
  ["x86-64-v4", ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]],
];

/** What this machine is, without running any native code of ours. */
export function readMachineFacts(): MachineFacts {
  const cpuinfo = readText("/proc/cpuinfo");
  const flags = new Set((/^flags\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? "").split(" "));
  let level: CpuLevel = "x86-64";
  for (const [name, needed] of levels) {
    if (!needed.every((flag) => flags.has(flag))) break;
    level = name;
  }
  const cuda = readCuda();
  const otherGpus = readOtherGpus();
  return {
    os: process.platform,
    arch: process.arch === "x64" ? "x86_64" : process.arch,
    libc: readLibc(),
    cpu: {
      model: /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.trim() ?? "unknown",
      level,
      cores: availableParallelism(),
    },
    memory: { total: totalmem(), available: availableMemory() },
    ...(cuda === undefined ? {} : { cuda }),
    ...(otherGpus.length === 0 ? {} : { otherGpus }),
  };
}

function availableMemory(): number {
  const kib = /^MemAvailable:\s*(\d+) kB$/m.exec(readText("/proc/meminfo"))?.[1];
  const free = kib === undefined ? totalmem() : Number(kib) * 1024;
  // A container's limit is often lower than the machine's memory.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(free, limit) : free;
}

/** Version 0 stands for a C library that does not say what it is; every floor is above it. */
function readLibc(): MachineFacts["libc"] {
  // Without this the report looks up host names.
  (process.report as { excludeNetwork?: boolean }).excludeNetwork = true;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  const version = report.header?.glibcVersionRuntime;
  return version === undefined ? { family: "unknown", version: "0" } : { family: "glibc", version };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
