import { fstatSync, readSync } from "node:fs";
import { addon, guarded, type ImageHandle } from "./addon.ts";
import { type Device, deviceHandle } from "./device.ts";
import type { LibraryOrigin } from "./library.ts";

/** A device image (cubin), loaded on a GPU: kernels without any code for this side. */
export interface Image {
  readonly device: Device;
  readonly origin: LibraryOrigin | undefined;
  /** Number of a kernel, made ready for so much dynamic shared memory. @throws KL_LOAD_SYMBOL */
  kernel(name: string, sharedBytes: number): number;
}

const handles = new WeakMap<Image, ImageHandle>();
export const imageHandle = (image: Image): ImageHandle => handles.get(image)!;

/** Loads the image behind an open descriptor. @throws KL_LOAD_INSTANCE */
export function openImage(fd: number, device: Device, origin?: LibraryOrigin): Image {
  const bytes = Buffer.allocUnsafe(fstatSync(fd).size);
  for (let at = 0, count = 1; at < bytes.length && count > 0; at += count) {
    count = readSync(fd, bytes, at, bytes.length - at, at);
  }
  const remedy = "Pin a version of the kernel that was built for this engine and device.";
  const handle = guarded((native) => native.openImage(bytes, deviceHandle(device)), remedy);
  const known = new Map<string, number>();
  const image: Image = {
    device,
    origin,
    kernel(name, sharedBytes) {
      const key = `${name} ${sharedBytes}`;
      const number = known.get(key) ?? guarded(() => addon().imageKernel(handle, name, sharedBytes), remedy);
      known.set(key, number);
      return number;
    },
  };
  handles.set(image, handle);
  return image;
}
