import { argsBytes, type OpName } from "@kernlock/kernels/abi";
import { fail, payloadFiles } from "@kernlock/kernels/format";
import type { HostedKernel } from "../client/protocol.ts";
import {
  type Device,
  type Image,
  type ImageLaunch,
  type Launch,
  type Library,
  openImage,
  openLibrary,
} from "../native/index.ts";
import { type ImageOp, imageLaunches } from "./images.ts";

/** An op where it can be launched: of a library with code for this side, or of device images. */
export type LoadedOp = LibraryOp | (ImageOp & { readonly name: OpName });
interface LibraryOp {
  readonly name: OpName;
  readonly library: Library;
  readonly index: number;
  /** Its descriptor says that it may begin before its predecessor has ended. */
  readonly pdl: boolean;
}

/** Which op of which variant of which kernel. */
type OpOrigin = { readonly kernel: string; readonly variant: string; readonly op: string };
const opKey = ({ kernel, variant, op }: OpOrigin): string => `${kernel} ${variant} ${op}`;

/** Loaded ops, found by `findOp`. */
export type LoadedOps = ReadonlyMap<string, LoadedOp>;

/** The largest place that a launch of an image may ask for to write what nobody reads. */
const sinkBytes = 1 << 16;

/**
 * Opens every sealed file. A library is held to its variant.json: the same ops under the same names, no more and no fewer;
 * an image brings the kernels that its ops launch.
 *
 * @throws KL_LOAD_*; KL_LOAD_OP_TABLE when a file has other ops than its descriptor
 */
export function loadOps(kernels: readonly HostedKernel[], device: Device): LoadedOps {
  const loaded = new Map<string, LoadedOp>();
  for (const kernel of kernels) {
    const { name, version, digest, variant } = kernel;
    const origin = { kernel: name, version, digest };
    const images = new Map<string, Image>();
    for (const { path, kind } of payloadFiles(variant)) {
      const file = kernel.files.find((one) => one.path === path);
      if (file === undefined)
        fail("KL_LOAD_OP_TABLE", `The file ${path} of ${name} was not handed to the engine host.`);
      if (kind === "device-image") images.set(path, openImage(file.fd, device, origin));
      else {
        const library = openLibrary(file.fd, device, origin);
        for (const op of libraryOps(kernel, path, library)) {
          loaded.set(opKey({ kernel: name, variant: variant.variant, op: library.ops[op.index]!.name }), op);
        }
      }
    }
    const imageOps = variant.ops.filter((op) => op.launch !== undefined);
    const sink = imageOps.length === 0 ? 0n : device.allocate(sinkBytes).address;
    for (const op of imageOps) {
      const facts = { ...op, launch: op.launch! };
      // Now, as for libraries: nothing is looked up or loaded once programs run.
      for (const { file, entry, shared_bytes } of facts.launch.steps) images.get(file)!.kernel(entry, shared_bytes);
      const label = `${op.name}/${op.path}`;
      loaded.set(opKey({ kernel: name, variant: variant.variant, op: label }), { name: op.name, facts, images, sink });
    }
  }
  return loaded;
}

function libraryOps({ name, variant }: HostedKernel, path: string, library: Library): LibraryOp[] {
  const described = variant.ops.filter((op) => op.file === path);
  const declared = described.map((op) => `${op.name}/${op.path}`);
  const found = library.ops.map((op) => op.name);
  if (declared.toSorted().join() !== found.toSorted().join()) {
    fail("KL_LOAD_OP_TABLE", `${name} declares other ops for ${path} than the library has.`, {
      remedy: "Do not use this version of the kernel; tell its publisher.",
      details: { kernel: name, declared, found },
    });
  }
  return library.ops.map((op, index) => {
    if (op.name.split("/")[0] !== op.op || op.argsSize !== argsBytes(op.op)) {
      fail("KL_LOAD_OP_TABLE", `The op ${op.name} of ${name} has other arguments than its name says.`, {
        remedy: "Do not use this version of the kernel; tell its publisher.",
        details: { kernel: name, op: op.name },
      });
    }
    const pdl = described.some((one) => `${one.name}/${one.path}` === op.name && one.features.includes("pdl"));
    return { name: op.op, library, index, pdl };
  });
}

export function findOp(ops: LoadedOps, planned: OpOrigin): LoadedOp {
  const op = ops.get(opKey(planned));
  return op ?? fail("KL_LOAD_OP_TABLE", `The plan uses ${planned.op} of ${planned.kernel}, which was not loaded.`);
}

/** The steps that run an op: one, or the launches of its images. */
export function launch(op: LoadedOp, args: Uint8Array): (Launch | ImageLaunch)[] {
  if ("facts" in op) return imageLaunches(op, args);
  const { library, index, pdl } = op;
  return [{ library, index, args, pdl }];
}
