import { fail, KernlockError } from "@kernlock/kernels/format";
import { addon, type NativeStep, type StepFailure } from "./addon.ts";
import { type Device, deviceHandle } from "./device.ts";
import { type Image, imageHandle } from "./image.ts";
import { type Library, libraryHandle } from "./library.ts";

/** One launch: op number `index` of a library, with its encoded arguments. */
export interface Launch {
  readonly library: Library;
  readonly index: number;
  readonly args: Uint8Array;
  /** The op keeps the rules of programmatic dependent launch, so it may begin before its predecessor ends. Default: no. */
  readonly pdl?: boolean;
}

/** One kernel of a device image, launched by data. */
export interface ImageLaunch {
  readonly image: Image;
  /** The op that it is part of: `rmsnorm/triton`. */
  readonly op: string;
  readonly kernel: number;
  readonly grid: readonly number[];
  readonly block: readonly number[];
  readonly sharedBytes: number;
  /** The kernel's parameters as it takes them, and where each begins. */
  readonly params: Uint8Array;
  readonly offsets: readonly number[];
  readonly pdl?: boolean;
}

/** Bytes between memory of this process and the device's own. */
export interface Copy {
  readonly to: bigint;
  readonly from: bigint;
  readonly bytes: number;
  /** To the device. */
  readonly up: boolean;
}

export type Step = Launch | ImageLaunch | Copy;

/** Steps in a fixed order. Arguments are copied in; what changes from run to run lives in the arrays they point to. */
export interface Program {
  readonly device: Device;
  readonly length: number;
  /** Runs every step in order, off the JavaScript thread; runs of one device follow one another. @throws KL_OP_FAILED */
  run(): Promise<void>;
  /** The same on the calling thread, for tests and for preparing weights; waits for a program that runs. */
  runSync(): void;
  /**
   * Milliseconds that each of `runs` runs takes, after one that is not counted; by the clock of the device where it has one,
   * as a graph where it replays programs so. On the calling thread, for benchmarks. @throws KL_OP_FAILED, KL_DEVICE_FAULT
   */
  time(runs: number): number[];
  /** Overwrites bytes of a launch's arguments. @throws KL_DEVICE_BUSY while the program runs, KL_PROGRAM_INVALID */
  patch(step: number, offset: number, bytes: Uint8Array): void;
}

const statuses = ["OK", "INVALID", "UNSUPPORTED", "WORKSPACE", "DEVICE", "ABI_MISMATCH"];

const invalid = (step: number, text: string) => fail("KL_PROGRAM_INVALID", `Step ${step} ${text}.`);

/** The step as the native side takes it. @throws KL_PROGRAM_INVALID when it does not fit its library or the device */
export function nativeStep(device: Device, step: Step, i: number): NativeStep {
  if ("to" in step) return step;
  if ("image" in step) {
    if (step.image.device !== device) invalid(i, `(${step.op}) uses an image of another device`);
    return { ...step, image: imageHandle(step.image), pdl: step.pdl ?? false };
  }
  const { library, index, args, pdl } = step;
  const op = library.ops[index] ?? invalid(i, `names op ${index} of a library with ${library.ops.length}`);
  if (library.device !== device) invalid(i, `(${op.name}) uses a library of another device`);
  if (
    args.byteLength !== op.argsSize ||
    new DataView(args.buffer, args.byteOffset).getUint32(0, true) !== op.argsSize
  ) {
    invalid(i, `(${op.name}) has arguments of ${args.byteLength} bytes, not ${op.argsSize}`);
  }
  return { library: libraryHandle(library), index, args, pdl: pdl ?? false };
}

/** The error of a step that failed, naming the op, its kernel and the kernel's digest. */
export function stepError(steps: readonly Step[], failure: StepFailure): KernlockError {
  const step = steps[failure.step];
  const status = statuses[failure.status] ?? String(failure.status);
  const text = failure.text || "no reason given";
  if (step === undefined) {
    return new KernlockError("KL_DEVICE_FAULT", `The device reported a fault while a program ran: ${text}.`, {
      remedy:
        "Run it again with --careful, which goes op by op and names the one at fault; `kernlock selftest` tries each alone.",
      details: { status, text: failure.text },
    });
  }
  if ("to" in step) {
    return new KernlockError("KL_DEVICE_FAULT", `Step ${failure.step}, a copy, failed with ${status}: ${text}.`, {
      details: { step: failure.step, status, text: failure.text },
    });
  }
  const op = "image" in step ? step.op : step.library.ops[step.index]!.name;
  const { origin } = "image" in step ? step.image : step.library;
  const from = origin === undefined ? "" : ` of ${origin.kernel} ${origin.version} (${origin.digest})`;
  return new KernlockError("KL_OP_FAILED", `Step ${failure.step} (${op}${from}) failed with ${status}: ${text}`, {
    details: { step: failure.step, op, ...origin, status, text: failure.text },
  });
}

/** @throws KL_PROGRAM_INVALID when a library is another device's, or an op index or argument size does not fit it */
export function createProgram(device: Device, steps: readonly Step[]): Program {
  const native = steps.map((step, i) => nativeStep(device, step, i));
  const used = [...new Set(steps.flatMap((step) => ("library" in step ? [step.library] : [])))];
  const handle = addon().createProgram(native);
  let running = 0;

  const ready = () => {
    for (const library of used) libraryHandle(library);
    return deviceHandle(device);
  };
  const judge = (failure: StepFailure | undefined) => {
    if (failure !== undefined) throw stepError(steps, failure);
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
    time(runs) {
      const taken = addon().timeProgram(ready(), handle, runs);
      if (!Array.isArray(taken)) throw stepError(steps, taken);
      return taken;
    },
    patch(step, offset, bytes) {
      if (running > 0) fail("KL_DEVICE_BUSY", "The program is running.");
      const patched = steps[step] ?? invalid(step, "does not exist");
      const length = "args" in patched ? patched.args.byteLength : 0;
      if (!(offset >= 4 && offset + bytes.byteLength <= length)) invalid(step, "has no such bytes to patch");
      addon().patchProgram(handle, step, offset, bytes);
    },
  };
}

export const run = (program: Program): Promise<void> => program.run();
