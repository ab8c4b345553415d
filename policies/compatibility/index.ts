/**
 * Which kernels run a model on a machine, and what is refused: pure judgement over facts that are handed in.
 */

export { fitsMachine } from "./candidates.ts";
export { architectureOf, architecturesOf, capabilityNumber, codeFor, codeText, ptxRunsOn, runsOn } from "./gpu.ts";
export { type MatrixFacts, type MatrixRow, matrix, renderMatrix, scaleRow } from "./matrix.ts";
export { parsePin } from "./pins.ts";
export { compiledPtx, type PlanFacts, plan } from "./plan.ts";
export {
  arenaPages,
  type BufferName,
  bucketOf,
  bufferBytes,
  dtypeBytes,
  type InputName,
  inputLayout,
  type Limits,
  modeTypes,
  pageBytes,
  pagesPerSequence,
  pageTokens,
  type ResultName,
  resultLayout,
  type StepSizes,
  stepDims,
  stepSlots,
} from "./sizes.ts";
export * from "./types.ts";
