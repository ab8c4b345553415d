import { availableParallelism } from "node:os";
import { fail } from "@kernlock/kernels/format";
import { addon, type DeviceHandle, guarded } from "./addon.ts";
import { deviceMemory, type Memory, memory } from "./memory.ts";

export type DeviceOptions =
  | {
      readonly kind: "cpu";
      /** Threads that take part in `parallel_for`, the caller included; default: the cores this process may use. */
      readonly workers?: number;
    }
  | {
      readonly kind: "cuda";
      readonly ordinal: number;
      /** Path of the driver's library, as `findDriver` gives it. */
      readonly driver: string;
      /** Whether the driver may compile PTX; the same for all devices of a process. Default no. */
      readonly compilePtx?: boolean;
    };

/** What the driver says of a GPU. */
export interface GpuInfo {
  readonly name: string;
  /** 90 for 9.0. */
  readonly capability: number;
  readonly multiprocessors: number;
  /** The highest CUDA version that the driver runs: "13.0". */
  readonly cuda: string;
}

export interface Device {
  readonly kind: "cpu" | "cuda";
  /** Device number, -1 for the CPU. */
  readonly ordinal: number;
  readonly workers: number;
  /** Null for the CPU. */
  readonly gpu: GpuInfo | null;
  /** One piece of device memory, from which `allocate` takes as long as it lasts. Nothing on a CPU. @throws KL_MEMORY_ALLOCATE */
  reserve(bytes: number): void;
  /** Zeroed, 64-byte aligned device memory. @throws KL_MEMORY_ALLOCATE */
  allocate(bytes: number): Memory;
  /**
   * Memory that JavaScript sees and the device copies from and to fastest. Zeroed, unless the caller writes all that is read.
   * @throws KL_MEMORY_ALLOCATE
   */
  allocateHost(bytes: number, zeroed?: boolean): Memory;
  /** Bytes [offset, offset + size) of an open file, read-only, paged in on use. @throws KL_MEMORY_MAP */
  mapFile(fd: number, offset: number, size: number): Memory;
  /** Position of the first `byte` in `length` bytes of this process' memory, -1 when there is none. */
  indexOfByte(address: bigint, length: number, byte: number): number;
  /**
   * Bytes of a GPU: free and in all, what `allocate` has given out, and the most that was used besides the context,
   * kernels included. Zeroes for the CPU.
   */
  memory(): { free: number; total: number; inUse: number; mostUsed: number };
  /** Programs run launch by launch, each waited for: slow, and a fault names its op. A CPU always does. */
  careful(on: boolean): void;
  /** Seconds that all workers need to read a range once, the best of `repeats` passes: the yardstick of benchmarks. */
  timeReadLoop(address: bigint, bytes: number, repeats: number): number;
  /** Bytes a second, read and written ones together, of copying so many bytes from one place to another: the best of several. @throws KL_MEMORY_ALLOCATE */
  timeCopy(bytes: number): number;
  /** Milliseconds during which a program was at work, since the device was opened. */
  busy(): number;
  /** Ends the threads, after the step at hand of a running program. Memory of a CPU stays, a GPU's is given back. */
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

function openNative(options: DeviceOptions): { handle: DeviceHandle; workers: number; gpu: GpuInfo | null } {
  if (options.kind === "cpu") {
    const { workers = cpuFacts().cores } = options;
    return { handle: addon().openDevice(workers), workers: Math.max(1, workers), gpu: null };
  }
  const remedy = "Run `kernlock doctor`, which says what the driver and its devices are.";
  const { handle, driver, name, capability, multiprocessors } = guarded(
    (native) => native.openCuda(options.driver, options.ordinal, options.compilePtx ?? false),
    remedy,
  );
  const cuda = `${Math.floor(driver / 1000)}.${Math.floor((driver % 1000) / 10)}`;
  return { handle, workers: 1, gpu: { name, capability, multiprocessors, cuda } };
}

/**
 * Opens a device and starts its threads. The process may exit while a program runs.
 * @throws KL_DEVICE_DRIVER, KL_DEVICE_OPEN
 */
export function openDevice(options: DeviceOptions): Device {
  const native = addon();
  const { handle, workers, gpu } = openNative(options);
  const remedy = "Free memory, or choose a shorter context or fewer sequences.";
  const device: Device = {
    kind: options.kind,
    ordinal: options.kind === "cpu" ? -1 : options.ordinal,
    workers,
    gpu,
    reserve(bytes) {
      size(bytes, "KL_MEMORY_ALLOCATE");
      guarded((native) => native.reserve(deviceHandle(device), bytes), remedy);
    },
    allocate(bytes) {
      size(bytes, "KL_MEMORY_ALLOCATE");
      const address = guarded((native) => native.allocate(deviceHandle(device), bytes), remedy);
      const release = () => native.release(handle, address, bytes);
      return options.kind === "cpu" ? memory(address, bytes, release) : deviceMemory(address, bytes, release);
    },
    allocateHost(bytes, zeroed = true) {
      size(bytes, "KL_MEMORY_ALLOCATE");
      const address = guarded((native) => native.allocateHost(deviceHandle(device), bytes, zeroed), remedy);
      return memory(address, bytes, () => native.releaseHost(handle, address, bytes));
    },
    mapFile(fd, offset, bytes) {
      size(bytes, "KL_MEMORY_MAP");
      if (!Number.isSafeInteger(offset) || offset < 0) fail("KL_MEMORY_MAP", `${offset} is no place in a file.`);
      const address = guarded((native) => native.mapFile(fd, offset, bytes));
      return memory(address, bytes, () => native.unmapFile(address, bytes));
    },
    indexOfByte: (address, length, byte) => native.indexOfByte(address, length, byte),
    memory: () => native.deviceMemory(deviceHandle(device)),
    careful: (on) => native.setCareful(deviceHandle(device), on),
    timeReadLoop: (address, bytes, repeats) => native.timeReadLoop(deviceHandle(device), address, bytes, repeats),
    timeCopy: (bytes) => guarded((native) => native.timeCopy(deviceHandle(device), bytes), remedy),
    busy: () => native.busyTime(deviceHandle(device)),
    close() {
      if (handles.delete(device)) native.closeDevice(handle);
    },
  };
  handles.set(device, handle);
  return device;
}
