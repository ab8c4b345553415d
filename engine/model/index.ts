/**
 * Checkpoints as they lie on disk: configuration, tensor table, tokenizer, chat template, harmony.
 *
 * `openModel` checks everything before memory is spent and reads no byte of a weight. The model can be described to a
 * process that opens no path: `describeModel` there, `modelFromDescription` here.
 */
export { parseConfig } from "./config.ts";
export { describeModel, modelFromDescription } from "./describe.ts";
export { modelFacts } from "./facts.ts";
export { type FillOptions, fillModel } from "./fill.ts";
export { createHarmonyParser } from "./harmony.ts";
export { formatInspection, inspectModel } from "./inspect.ts";
export { type MakeModelOptions, makeModel, type ShapeName, shapes } from "./make.ts";
export { openModel } from "./open.ts";
export { ropeTable } from "./rope.ts";
export { createTemplateRenderer, type RawRenderer, startRenderProcess, templateRenderer } from "./template.ts";
export { loadTokenizer, parseTokenizer } from "./tokenizer.ts";
export * from "./types.ts";
