import { availableParallelism } from "node:os";
import { fail } from "@kernlock/kernels/format";
import { addon, type DeviceHandle, guarded } from "./addon.ts";
import { type Memory, memory } from "./memory.ts";

export interface DeviceOptions {
  readonly kind: "cpu";
  /** Threads that take part in `parallel_for`, the caller included; default: the cores this process may use. */
  readonly workers?: number;
}

export interface Device {
  readonly kind: "cpu";
  /** Device number, -1 for the CPU. */
  readonly ordinal: number;
  readonly workers: number;
  /** Zeroed, 64-byte aligned memory. @throws KL_MEMORY_ALLOCATE */
  allocate(bytes: number): Memory;
  /** Bytes [offset, offset + size) of an open file, read-only, paged in on use. @throws KL_MEMORY_MAP */
  mapFile(fd: number, offset: number, size: number): Memory;
  /** Position of the first `byte` in `length` bytes of device memory, -1 when there is none. */
  indexOfByte(address: bigint, length: number, byte: number): number;
  /** Seconds that all workers need to read a range once, the best of `repeats` passes: the yardstick of benchmarks. */
  timeReadLoop(address: bigint, bytes: number, repeats: number): number;
  /** Ends the threads, after the step at hand of a running program. Memory and libraries stay. */
  close(): void;
}

export interface CpuFacts {
  /** Highest x86-64 level that this CPU and its operating system offer. */
  readonly level: "x86-64" | "x86-64-v2" | "x86-64-v3" | "x86-64-v4";
  /** Cores this process may keep busy: those of its affinity mask, fewer where a quota allows only fewer. */
  readonly cores: number;
}

export function cpuFacts(): CpuFacts {
  const { level, cores } = addon().facts();
  const names = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"] as const;
  // The affinity mask does not know a container's quota; Node's count does.
  return { level: names[level - 1]!, cores: Math.min(cores, availableParallelism()) };
}

const handles = new WeakMap<Device, DeviceHandle>();

/** The native side of a device. @throws KL_DEVICE_CLOSED */
export function deviceHandle(device: Device): DeviceHandle {
  return handles.get(device) ?? fail("KL_DEVICE_CLOSED", "The device has been closed.");
}

const size = (bytes: number, code: "KL_MEMORY_ALLOCATE" | "KL_MEMORY_MAP") =>
  Number.isSafeInteger(bytes) && bytes > 0 ? bytes : fail(code, `${bytes} is no size of a memory range.`);

/** Starts a device's threads. The process may exit while a program runs. */
export function openDevice({ workers = cpuFacts().cores }: DeviceOptions): Device {
  const native = addon();
  const handle = native.openDevice(workers);
  const device: Device = {
    kind: "cpu",
    ordinal: -1,
    workers: Math.max(1, workers),
    allocate(bytes) {
      size(bytes, "KL_MEMORY_ALLOCATE");
      const remedy = "Free memory, or choose a shorter context or fewer sequences.";
      const address = guarded((native) => native.allocate(deviceHandle(device), bytes), remedy);
      return memory(address, bytes, () => native.release(handle, address, bytes));
    },
    mapFile(fd, offset, bytes) {
      size(bytes, "KL_MEMORY_MAP");
      if (!Number.isSafeInteger(offset) || offset < 0) fail("KL_MEMORY_MAP", `${offset} is no place in a file.`);
      const address = guarded((native) => native.mapFile(fd, offset, bytes));
      return memory(address, bytes, () => native.unmapFile(address, bytes));
    },
    indexOfByte: (address, length, byte) => native.indexOfByte(address, length, byte),
    timeReadLoop: (address, bytes, repeats) => native.timeReadLoop(deviceHandle(device), address, bytes, repeats),
    close() {
      if (handles.delete(device)) native.closeDevice(handle);
    },
  };
  handles.set(device, handle);
  return device;
}
