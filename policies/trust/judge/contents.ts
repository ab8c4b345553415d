import type { Variant } from "@kernlock/kernels/format";
import type { PayloadKind, VariantFacts } from "../types.ts";

const payloadKinds: readonly PayloadKind[] = ["shared-object", "device-image"];

/** What rules about the kernel itself ask of a variant.json. */
export function contentsOf({ backend, files, license }: Variant): NonNullable<VariantFacts["contents"]> {
  return {
    payloads: payloadKinds.filter((kind) => files.some((file) => file.kind === kind)),
    ptx: backend.kind === "cuda" && backend.ptx.length > 0,
    license,
  };
}
