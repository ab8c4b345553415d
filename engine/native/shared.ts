/** Memory that both sides use: JavaScript writes or reads it, ops of a device read or write it. */
import type { Device } from "./device.ts";
import type { Memory } from "./memory.ts";
import { type Copy, createProgram, type Step } from "./program.ts";

export interface Shared {
  /** Where ops find it. */
  readonly address: bigint;
  readonly size: number;
  /** What JavaScript sees of it. */
  readonly host: Memory;
  /** Steps that bring bytes [offset, offset + length) to the device, or back. None on a CPU, where both are one. */
  up(offset: number, length: number): Step[];
  down(offset: number, length: number): Step[];
  free(): void;
}

/** @throws KL_MEMORY_ALLOCATE */
export function share(device: Device, size: number): Shared {
  const host = device.allocateHost(size);
  if (device.kind === "cpu") {
    return { address: host.address, size, host, up: () => [], down: () => [], free: () => host.free() };
  }
  const own = device.allocate(size);
  const copy = (up: boolean, offset: number, length: number): Copy[] => {
    const [there, here] = [own.address + BigInt(offset), host.address + BigInt(offset)];
    return length === 0 ? [] : [{ to: up ? there : here, from: up ? here : there, bytes: length, up }];
  };
  return {
    address: own.address,
    size,
    host,
    up: (offset, length) => copy(true, offset, length),
    down: (offset, length) => copy(false, offset, length),
    free() {
      host.free();
      own.free();
    },
  };
}

/** Writes bytes to device memory, now and on the calling thread. */
export function writeMemory(device: Device, to: Memory, bytes: Uint8Array): void {
  if (device.kind === "cpu") {
    to.bytes.set(bytes);
    return;
  }
  const host = device.allocateHost(bytes.length);
  host.bytes.set(bytes);
  createProgram(device, [{ to: to.address, from: host.address, bytes: bytes.length, up: true }]).runSync();
  host.free();
}

/** A copy of the first bytes of device memory, taken now. */
export function readMemory(device: Device, from: Memory, length = from.size): Uint8Array {
  if (device.kind === "cpu") return from.view(0, length).slice();
  const host = device.allocateHost(length);
  createProgram(device, [{ to: host.address, from: from.address, bytes: length, up: false }]).runSync();
  const copy = host.bytes.slice();
  host.free();
  return copy;
}
