import { fail, KernlockError } from "@kernlock/kernels/format";
import { addon, type StepFailure } from "./addon.ts";
import { type Device, deviceHandle } from "./device.ts";
import { type Library, libraryHandle } from "./library.ts";

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
  /** The same on the calling thread, for tests and for preparing weights; waits for a program that runs. */
  runSync(): void;
  /** Overwrites bytes of a launch's arguments. @throws KL_DEVICE_BUSY while the program runs, KL_PROGRAM_INVALID */
  patch(step: number, offset: number, bytes: Uint8Array): void;
}

const statuses = ["OK", "INVALID", "UNSUPPORTED", "WORKSPACE", "DEVICE", "ABI_MISMATCH"];

/** @throws KL_PROGRAM_INVALID when a library is another device's, or an op index or argument size does not fit it */
export function createProgram(device: Device, steps: readonly Step[]): Program {
  const invalid = (step: number, text: string) => fail("KL_PROGRAM_INVALID", `Step ${step} ${text}.`);
  for (const [i, { library, index, args }] of steps.entries()) {
    const op = library.ops[index] ?? invalid(i, `names op ${index} of a library with ${library.ops.length}`);
    if (library.device !== device) invalid(i, `(${op.name}) uses a library of another device`);
    if (
      args.byteLength !== op.argsSize ||
      new DataView(args.buffer, args.byteOffset).getUint32(0, true) !== op.argsSize
    ) {
      invalid(i, `(${op.name}) has arguments of ${args.byteLength} bytes, not ${op.argsSize}`);
    }
  }
  const used = [...new Set(steps.map(({ library }) => library))];
  const handle = addon().createProgram(
    steps.map(({ library, index, args }) => ({ library: libraryHandle(library), index, args })),
  );
  let running = 0;

  const ready = () => {
    for (const library of used) libraryHandle(library);
    return deviceHandle(device);
  };
  const judge = (failure: StepFailure | undefined) => {
    if (failure === undefined) return;
    const { library, index } = steps[failure.step]!;
    const op = library.ops[index]!.name;
    const status = statuses[failure.status] ?? String(failure.status);
    const text = failure.text || "no reason given";
    throw new KernlockError("KL_OP_FAILED", `Step ${failure.step} (${op}) failed with ${status}: ${text}`, {
      details: { step: failure.step, op, status, text: failure.text },
    });
  };
  return {
    device,
    length: steps.length,
    async run() {
      const deviceNow = ready();
      running++;
      try {
        judge(await addon().runProgram(deviceNow, handle));
      } finally {
        running--;
      }
    },
    runSync() {
      judge(addon().runProgramSync(ready(), handle));
    },
    patch(step, offset, bytes) {
      if (running > 0) fail("KL_DEVICE_BUSY", "The program is running.");
      const { args } = steps[step] ?? invalid(step, "does not exist");
      if (!(offset >= 4 && offset + bytes.byteLength <= args.byteLength)) invalid(step, "has no such bytes to patch");
      addon().patchProgram(handle, step, offset, bytes);
    },
  };
}

export const run = (program: Program): Promise<void> => program.run();
