import type { Memory } from "./memory.ts";

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
  /** Position of the first `byte` in device memory, -1 when there is none. */
  indexOfByte(address: bigint, length: number, byte: number): number;
  /** Ends the threads once running programs have stopped. Memory and libraries stay. */
  close(): void;
}

export interface CpuFacts {
  /** Highest x86-64 level that this CPU and its operating system offer. */
  readonly level: "x86-64" | "x86-64-v2" | "x86-64-v3" | "x86-64-v4";
  /** Cores this process may run on. */
  readonly cores: number;
}

export declare function cpuFacts(): CpuFacts;
export declare function openDevice(options: DeviceOptions): Device;
