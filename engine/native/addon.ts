import { createRequire } from "node:module";
import { join } from "node:path";
import { buildAddon } from "@kernlock/kernels/build/addon";
import { fail, KernlockError } from "@kernlock/kernels/format";

/** Things of the native side, named apart so that they are not mixed up. */
export type DeviceHandle = { readonly brand: unique symbol };
export type LibraryHandle = { readonly brand: unique symbol };
export type ProgramHandle = { readonly brand: unique symbol };
export type ImageHandle = { readonly brand: unique symbol };

export interface StepFailure {
  /** 2^32 - 1: not known, since the steps ran as one. */
  readonly step: number;
  readonly status: number;
  readonly text: string;
}

/** What a step of a program is to the native side. */
export type NativeStep = NativeLaunch | NativeImageLaunch | { to: bigint; from: bigint; bytes: number; up: boolean };
export interface NativeLaunch {
  readonly library: LibraryHandle;
  readonly index: number;
  readonly args: Uint8Array;
  readonly pdl: boolean;
}

export interface NativeImageLaunch {
  readonly image: ImageHandle;
  readonly kernel: number;
  readonly grid: readonly number[];
  readonly block: readonly number[];
  readonly sharedBytes: number;
  readonly params: Uint8Array;
  readonly offsets: readonly number[];
  readonly pdl: boolean;
}

export interface NativeUpload {
  readonly jobs: readonly {
    readonly pieces: readonly { fd: number; offset: number; bytes: number; to: bigint; refuse: number }[];
    readonly launches: readonly NativeStep[];
  }[];
  readonly slots: readonly bigint[];
  readonly readers: number;
  readonly partBytes: number;
  readonly overlap: boolean;
}
/** Milliseconds that copies waited for the files, and that the average reader waited for the device. */
export interface UploadTimes {
  readonly files: number;
  readonly device: number;
}
export interface UploadFailure {
  readonly code: string;
  readonly text: string;
  readonly job: number;
  readonly piece: number;
  readonly index: number;
  readonly byte: number;
  /** What failed, where the code is KL_OP_FAILED. */
  readonly op: StepFailure;
}

/** addon.cc, function by function. */
export interface Addon {
  openDevice(workers: number): DeviceHandle;
  openCuda(
    driver: string,
    ordinal: number,
    compilePtx: boolean,
  ): {
    handle: DeviceHandle;
    name: string;
    capability: number;
    multiprocessors: number;
    driver: number;
    free: number;
    total: number;
  };
  reserve(device: DeviceHandle, bytes: number): void;
  deviceMemory(device: DeviceHandle): { free: number; total: number; inUse: number; mostUsed: number };
  setCareful(device: DeviceHandle, careful: boolean): void;
  closeDevice(device: DeviceHandle): void;
  facts(): { level: 1 | 2 | 3 | 4; cores: number };
  allocate(device: DeviceHandle, bytes: number): bigint;
  release(device: DeviceHandle, address: bigint, bytes: number): void;
  allocateHost(device: DeviceHandle, bytes: number, zeroed: boolean): bigint;
  releaseHost(device: DeviceHandle, address: bigint, bytes: number): void;
  mapFile(fd: number, offset: number, size: number): bigint;
  unmapFile(address: bigint, size: number): void;
  arrayBuffer(address: bigint, size: number): ArrayBuffer;
  detach(buffer: ArrayBuffer): void;
  indexOfByte(address: bigint, length: number, byte: number): number;
  openLibrary(
    fd: number,
    device: DeviceHandle,
  ): { handle: LibraryHandle; ops: { name: string; op: number; argsSize: number }[] };
  closeLibrary(library: LibraryHandle): void;
  openImage(bytes: Uint8Array, device: DeviceHandle): ImageHandle;
  imageKernel(image: ImageHandle, name: string, sharedBytes: number): number;
  createProgram(steps: NativeStep[]): ProgramHandle;
  patchProgram(program: ProgramHandle, step: number, offset: number, bytes: Uint8Array): void;
  runProgram(device: DeviceHandle, program: ProgramHandle): Promise<StepFailure | undefined>;
  runProgramSync(device: DeviceHandle, program: ProgramHandle): StepFailure | undefined;
  runUpload(
    device: DeviceHandle,
    upload: NativeUpload,
    onBytes: (done: number) => void,
  ): Promise<UploadTimes | UploadFailure>;
  timeReadLoop(device: DeviceHandle, address: bigint, bytes: number, repeats: number): number;
  timeProgram(device: DeviceHandle, program: ProgramHandle, runs: number): number[] | StepFailure;
  timeCopy(device: DeviceHandle, bytes: number): number;
  busyTime(device: DeviceHandle): number;
}

let loaded: Addon | undefined;

/** Builds the addon when there is no build of these sources yet and returns its path; starts no thread and loads nothing. */
export const addonPath = (): string =>
  buildAddon({
    name: "kernlock",
    folder: import.meta.dirname,
    sources: ["addon", "cpu", "cuda", "cuda_driver", "device", "library", "pool", "runner", "upload"].map(
      (name) => `${name}.cc`,
    ),
    include: [abi, join(abi, "generated")],
  });
const abi = join(import.meta.dirname, "..", "..", "kernels", "abi");

/** The addon, loaded on first use. @throws KL_ADDON_COMPILER, KL_ADDON_BUILD */
export function addon(): Addon {
  loaded ??= createRequire(import.meta.url)(addonPath()) as Addon;
  return loaded;
}

/** Turns an error of the addon, which carries a code, into a KernlockError. */
export function guarded<T>(work: (native: Addon) => T, remedy?: string): T {
  try {
    return work(addon());
  } catch (error) {
    if (error instanceof KernlockError || !(error instanceof Error) || !("code" in error)) throw error;
    const code = String(error.code);
    if (!code.startsWith("KL_")) throw error;
    return fail(code as `KL_${string}`, error.message, remedy === undefined ? {} : { remedy });
  }
}
