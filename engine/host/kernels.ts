import { argsBytes, type OpName } from "@kernlock/kernels/abi";
import { fail, payloadFiles } from "@kernlock/kernels/format";
import type { HostedKernel } from "../client/protocol.ts";
import { type Device, type Launch, type Library, openLibrary } from "../native/index.ts";

/** An op where it can be launched. */
export interface LoadedOp {
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

/**
 * Opens every sealed library and holds it to its variant.json: the same ops under the same names, no more and no fewer.
 *
 * @throws KL_LOAD_*; KL_LOAD_OP_TABLE when the library has other ops than its descriptor
 */
export function loadOps(kernels: readonly HostedKernel[], device: Device): LoadedOps {
  const loaded = new Map<string, LoadedOp>();
  for (const { name, version, digest, variant, files } of kernels) {
    for (const { path } of payloadFiles(variant)) {
      const file = files.find((one) => one.path === path);
      if (file === undefined)
        fail("KL_LOAD_OP_TABLE", `The file ${path} of ${name} was not handed to the engine host.`);
      const library = openLibrary(file.fd, device, { kernel: name, version, digest });
      const described = variant.ops.filter((op) => op.file === path);
      const declared = described.map((op) => `${op.name}/${op.path}`);
      const found = library.ops.map((op) => op.name);
      if (declared.toSorted().join() !== found.toSorted().join()) {
        fail("KL_LOAD_OP_TABLE", `${name} declares other ops for ${path} than the library has.`, {
          remedy: "Do not use this version of the kernel; tell its publisher.",
          details: { kernel: name, declared, found },
        });
      }
      for (const [index, op] of library.ops.entries()) {
        if (op.name.split("/")[0] !== op.op || op.argsSize !== argsBytes(op.op)) {
          fail("KL_LOAD_OP_TABLE", `The op ${op.name} of ${name} has other arguments than its name says.`, {
            remedy: "Do not use this version of the kernel; tell its publisher.",
            details: { kernel: name, op: op.name },
          });
        }
        const pdl = described.some((one) => `${one.name}/${one.path}` === op.name && one.features.includes("pdl"));
        loaded.set(opKey({ kernel: name, variant: variant.variant, op: op.name }), {
          name: op.op,
          library,
          index,
          pdl,
        });
      }
    }
  }
  return loaded;
}

export function findOp(ops: LoadedOps, planned: OpOrigin): LoadedOp {
  const op = ops.get(opKey(planned));
  return op ?? fail("KL_LOAD_OP_TABLE", `The plan uses ${planned.op} of ${planned.kernel}, which was not loaded.`);
}

export const launch = ({ library, index, pdl }: LoadedOp, args: Uint8Array): Launch => ({ library, index, args, pdl });
