import type { Model, TemplateRenderer, Tokenizer } from "./types.ts";

/**
 * Starts the renderer of the model's chat template. Everything it will ever read is read here, so that it goes on
 * working (and can start anew after a template that looped) in a process that may open no more files.
 *
 * @throws KL_TEMPLATE_ABSENT
 */
export function createTemplateRenderer(
  _model: Pick<Model, "template" | "templateTokens">,
  _tokenizer: Tokenizer,
): Promise<TemplateRenderer> {
  throw new Error("not written yet");
}
