export { type Cost, type CostSizes, costBytes, costOf, matrixBytes } from "./costs.ts";
export { type ArgsOf, argsBytes, encodeArgs, fieldOffset } from "./encode.ts";
export { abiBuild } from "./generated/build.ts";
export { type Slot, type StructLayout, structLayout } from "./layout.ts";
export * from "./ops.ts";
