import type { Device } from "./device.ts";
import type { Library } from "./library.ts";

/** One launch: op number `index` of a library, with its encoded arguments. */
export interface Step {
  readonly library: Library;
  readonly index: number;
  readonly args: Uint8Array;
}

/** Launches in a fixed order. Arguments are copied in; what changes from step to step lives in the arrays they point to. */
export interface Program {
  readonly device: Device;
  readonly length: number;
  /** Runs every launch in order, off the JavaScript thread; runs of one device follow one another. @throws KL_OP_FAILED */
  run(): Promise<void>;
  /** The same on the calling thread, for tests and for preparing weights. */
  runSync(): void;
  /** Overwrites bytes of a launch's arguments. @throws KL_DEVICE_BUSY while the program runs */
  patch(step: number, offset: number, bytes: Uint8Array): void;
  close(): void;
}

/** @throws KL_PROGRAM_INVALID when an op index or argument size does not fit its library */
export declare function createProgram(device: Device, steps: readonly Step[]): Program;
export const run = (program: Program): Promise<void> => program.run();
