import { fail, type LaunchStep, paramBytes, shown, type Variant, type VariantFile } from "../format/index.ts";
import { type CubinFacts, type CubinKernel, inspectCubin, isCubin } from "./cubin.ts";
import { type ElfSegment, inspectElf } from "./elf.ts";
import { inspectFatbin, isFatbin, type PtxFacts, readPtx } from "./fatbin.ts";

/** Code for GPUs in a file. Architectures are of the form `sm_90a`. */
export interface DeviceCode {
  readonly cubins: readonly CubinFacts[];
  /** Text that a driver would compile. */
  readonly ptx: readonly PtxFacts[];
}

/** Reads a file that is a cubin, or one or more fatbins, from its first byte to its last. Throws `KL_CUBIN_*`, `KL_FATBIN_*`. */
export function readDeviceImage(bytes: Uint8Array): DeviceCode {
  if (!isFatbin(bytes, 0)) {
    const cubin = inspectCubin(bytes);
    if (cubin.size !== bytes.byteLength) fail("KL_CUBIN_SECTION", "The cubin has something after its end.");
    return { cubins: [cubin], ptx: [] };
  }
  const found: DeviceCode[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const fatbin = inspectFatbin(bytes.subarray(at));
    found.push(ofFatbin(fatbin));
    at += fatbin.size;
  }
  return joined(found);
}

/**
 * Finds cubins, fatbins and PTX text in what a shared object maps: whatever stands there in the clear, at any place.
 * Throws `KL_CUBIN_*`, `KL_FATBIN_*` for what looks like such code and is malformed.
 */
export function findDeviceCode(bytes: Uint8Array, segments: readonly ElfSegment[]): DeviceCode {
  const found: DeviceCode[] = [];
  for (const { offset, fileSize } of segments.filter((s) => s.type === 1)) {
    const part = Buffer.from(bytes.buffer, bytes.byteOffset + offset, fileSize);
    const take = (code: DeviceCode, size: number): number => {
      if (found.push(code) > maxImages) fail("KL_IMAGE_UNEXPECTED", `A library holds more than ${maxImages} images.`);
      return size;
    };
    const fatbins = scan(part, fatbinStart, [], (at) => {
      if (!isFatbin(part, at)) return 0;
      const fatbin = inspectFatbin(part.subarray(at));
      return take(ofFatbin(fatbin), fatbin.size);
    });
    const cubins = scan(part, elfStart, fatbins, (at) => {
      if (!isCubin(part, at)) return 0;
      const cubin = inspectCubin(part.subarray(at));
      return take({ cubins: [cubin], ptx: [] }, cubin.size);
    });
    const images = [...fatbins, ...cubins].sort(([a], [b]) => a - b);
    scan(part, ptxStart, images, (at) => {
      const ptx = readPtx(part.subarray(at));
      return ptx === undefined ? 0 : take({ cubins: [], ptx: [ptx] }, ptxStart.length);
    });
  }
  return joined(found);
}

type Range = readonly [from: number, to: number];
const maxImages = 1024;
const fatbinStart = Buffer.from([0x50, 0xed, 0x55, 0xba]);
const elfStart = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);
const ptxStart = Buffer.from(".version");

/** Calls `accept` where a pattern stands outside of sorted ranges; it returns the length of what it took. Returns what was taken. */
function scan(bytes: Buffer, pattern: Buffer, skip: readonly Range[], accept: (at: number) => number): Range[] {
  const taken: Range[] = [];
  let next = 0;
  for (let at = bytes.indexOf(pattern); at >= 0; ) {
    while (next < skip.length && skip[next]![1] <= at) next++;
    const inside = next < skip.length && skip[next]![0] <= at;
    const size = inside ? skip[next]![1] - at : accept(at);
    if (!inside && size > 0) taken.push([at, at + size]);
    at = bytes.indexOf(pattern, at + Math.max(1, size));
  }
  return taken;
}

/**
 * Compares the device code of one payload file with what its variant declares: exactly the architectures, exactly the
 * PTX; of a device image also every kernel that is launched, its parameters, threads and shared memory.
 * Throws `KL_IMAGE_*`, and what reading the file throws.
 */
export function checkDeviceCode(
  bytes: Uint8Array,
  file: Pick<VariantFile, "path" | "kind">,
  variant: Pick<Variant, "backend" | "ops">,
): void {
  const { backend } = variant;
  const name = shown(file.path);
  const code =
    file.kind === "device-image" ? readDeviceImage(bytes) : findDeviceCode(bytes, inspectElf(bytes).segments);
  if (backend.kind === "cpu") {
    if (code.cubins.length > 0 || code.ptx.length > 0)
      fail("KL_IMAGE_UNEXPECTED", `${name} of a CPU variant holds code for GPUs.`);
    return;
  }
  if (code.cubins.length === 0 && code.ptx.length === 0) {
    fail("KL_IMAGE_MISSING", `${name} of a CUDA variant holds no device code that can be read.`, {
      remedy: "Embed the cubin or fatbin as it is, neither packed nor encrypted.",
    });
  }
  const compare = (
    found: readonly string[],
    declared: readonly string[],
    error: "KL_IMAGE_ARCHITECTURE" | "KL_IMAGE_PTX",
  ) => {
    const [is, says] = [sorted(found), sorted(declared)];
    if (is.join() === says.join()) return;
    const what = error === "KL_IMAGE_PTX" ? "PTX for" : "code for";
    fail(
      error,
      `${name} holds ${what} ${is.join(", ") || "nothing"}; variant.json says ${says.join(", ") || "none"}.`,
      {
        details: { file: file.path, found: is, declared: says },
      },
    );
  };
  compare(
    code.cubins.map((c) => c.architecture),
    backend.architectures,
    "KL_IMAGE_ARCHITECTURE",
  );
  compare(
    code.ptx.map(({ target }) => target),
    backend.ptx,
    "KL_IMAGE_PTX",
  );
  for (const { version } of code.ptx) checkPtxVersion(name, version, backend.driver);
  if (file.kind !== "device-image") return;
  // What a launch says is compared with machine code; the compiler's choices on another machine are nobody's to compare.
  if (code.ptx.length > 0) {
    fail("KL_IMAGE_PTX", `${name} is a device image and holds PTX, with which no launch can be compared.`, {
      remedy: "Leave PTX out of device images, or launch it from a shared object.",
    });
  }
  for (const op of variant.ops) {
    for (const step of op.launch?.steps ?? []) {
      if (step.file !== file.path) continue;
      const sizes = step.params.map((p) => paramBytes(op.name, p));
      for (const cubin of code.cubins) checkStep(name, step, sizes, cubin);
    }
  }
}

/**
 * A driver compiles PTX of its own CUDA version and older ones, also where machine code of a newer minor version would run:
 * what the variant asks of a driver has to be enough for that.
 */
function checkPtxVersion(file: string, version: string, driver: string): void {
  const needed = cudaOfPtx(version);
  const [[major, minor], [has, hasMinor]] = [needed, driver].map((one) => one.split(".").map(Number)) as [
    [number, number],
    [number, number],
  ];
  if (has > major || (has === major && hasMinor >= minor)) return;
  fail(
    "KL_IMAGE_PTX",
    `${file} holds PTX ${version}, which takes a driver for CUDA ${needed}; variant.json says ${driver}.`,
    {
      remedy: "Say the newer driver, or compile the PTX with an older toolkit.",
    },
  );
}

/** The CUDA version whose drivers compile a version of PTX first, by the release notes of the PTX ISA. */
function cudaOfPtx(version: string): string {
  const [major, minor] = version.split(".").map(Number) as [number, number];
  if (major >= 9) return `${major + 4}.${minor}`;
  // 12.6 brought no version of its own.
  if (major === 8) return `12.${minor <= 5 ? minor : minor + 1}`;
  return major === 7 ? `11.${minor}` : "10.2";
}

/** Dynamic and static shared memory of a block together, by architecture; smaller for most of those not named. */
const sharedLimit: Readonly<Record<string, number>> = { 80: 163, 90: 227, 100: 227, 103: 227 };

function checkStep(file: string, step: LaunchStep, sizes: readonly number[], cubin: CubinFacts): void {
  const kernel = cubin.kernels.find((k) => k.name === step.entry);
  if (kernel === undefined) {
    fail("KL_IMAGE_ENTRY", `${file} has no kernel ${shown(step.entry)} for ${cubin.architecture}.`, {
      details: { kernels: cubin.kernels.map((k) => k.name).slice(0, 32) },
    });
  }
  const differs = (what: string) =>
    fail("KL_IMAGE_LAUNCH", `${file}: the kernel ${shown(step.entry)} ${what} than its launch says.`);
  const takes = kernel.params.map((p) => p.size);
  if (takes.join() !== sizes.join()) differs("takes other parameters");
  const { requiredThreads: required, maximumThreads: maximum } = kernel;
  if (required !== null && required.join() !== step.block.join()) differs("runs with other blocks");
  if (maximum !== null && threads(step.block) > threads(maximum)) differs("runs with smaller blocks");
  checkResources(kernel, step, cubin.architecture, differs);
}

function checkResources(kernel: CubinKernel, step: LaunchStep, architecture: string, differs: (what: string) => void) {
  const limit = (sharedLimit[/[0-9]+/.exec(architecture)![0]] ?? 99) * 1024;
  if (kernel.sharedBytes + step.shared_bytes > limit) differs("can have less shared memory");
  if (kernel.registers * threads(step.block) > 65_536) differs("takes more registers");
}

const threads = (block: readonly number[]) => block.reduce((a, b) => a * b, 1);
const sorted = (items: readonly string[]) => [...new Set(items)].sort();
const joined = (found: readonly DeviceCode[]): DeviceCode => ({
  cubins: found.flatMap((f) => f.cubins),
  ptx: found.flatMap((f) => f.ptx),
});

function ofFatbin({ entries }: ReturnType<typeof inspectFatbin>): DeviceCode {
  return {
    cubins: entries.flatMap((e) => (e.kind === "elf" ? [{ ...e.cubin, architecture: e.architecture }] : [])),
    ptx: entries.flatMap((e) => (e.kind === "ptx" ? [e.ptx] : [])),
  };
}
