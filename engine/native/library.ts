import { type OpName, opNames } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import { addon, guarded, type LibraryHandle } from "./addon.ts";
import { type Device, deviceHandle } from "./device.ts";

export interface LibraryOp {
  /** As in variant.json: `moe/cpp`. */
  readonly name: string;
  readonly op: OpName;
  /** Bytes of the argument struct. */
  readonly argsSize: number;
}

/** Where a library comes from, for errors that name it. */
export interface LibraryOrigin {
  readonly kernel: string;
  readonly version: string;
  /** Manifest digest of the variant. */
  readonly digest: string;
}

/** A kernel library with an instance open on one device. */
export interface Library {
  readonly device: Device;
  readonly origin: LibraryOrigin | undefined;
  readonly ops: readonly LibraryOp[];
  /** Closes the instance once a running program has ended. Programs that use it can no longer run. */
  close(): void;
}

const handles = new WeakMap<Library, LibraryHandle>();

/** The native side of a library. @throws KL_DEVICE_CLOSED */
export function libraryHandle(library: Library): LibraryHandle {
  return handles.get(library) ?? fail("KL_DEVICE_CLOSED", "The kernel library has been closed.");
}

/**
 * Loads the shared object behind an open descriptor and opens an instance of it on a device.
 * The descriptor is duplicated, so the caller may close its own.
 * @throws KL_LOAD_OPEN, KL_LOAD_IDENTITY, KL_LOAD_SYMBOL, KL_LOAD_ABI, KL_LOAD_INSTANCE
 */
export function openLibrary(fd: number, device: Device, origin?: LibraryOrigin): Library {
  const remedy = "Pin a version of the kernel that was built for this engine and machine.";
  const { handle, ops } = guarded((native) => native.openLibrary(fd, deviceHandle(device)), remedy);
  const library: Library = {
    device,
    origin,
    ops: ops.map(({ name, op, argsSize }) => ({ name, op: opNames[op]!, argsSize })),
    close() {
      if (handles.delete(library)) addon().closeLibrary(handle);
    },
  };
  handles.set(library, handle);
  return library;
}
