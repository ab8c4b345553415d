/**
 * The device runtime: memory, kernel libraries and op programs, executed by native code.
 *
 * Everything here is for the engine host alone. Addresses are device addresses as bigints; on the CPU they are pointers
 * into this process, and a wrong one in an argument struct crashes it. Errors are KernlockErrors.
 */
export { addonPath } from "./addon.ts";
export { type CpuFacts, cpuFacts, type Device, type DeviceOptions, type GpuInfo, openDevice } from "./device.ts";
export { type DriverFile, findDriver, hashDriver } from "./driver.ts";
export { type Image, openImage } from "./image.ts";
export { type Library, type LibraryOp, type LibraryOrigin, openLibrary } from "./library.ts";
export type { Memory } from "./memory.ts";
export { type Copy, createProgram, type ImageLaunch, type Launch, type Program, run, type Step } from "./program.ts";
export { readMemory, type Shared, share, writeMemory } from "./shared.ts";
export { ByteRefused, createUpload, type Source, type Upload, type UploadOptions, type UploadTimes } from "./upload.ts";
