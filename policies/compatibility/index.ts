/**
 * Which kernels run a model on a machine, and what is refused: pure judgement over facts that are handed in.
 */
export { type MatrixFacts, type MatrixRow, matrix, renderMatrix } from "./matrix.ts";
export { parsePin } from "./pins.ts";
export { plan } from "./plan.ts";
export * from "./types.ts";
