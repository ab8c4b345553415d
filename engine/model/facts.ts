import type { Model, ModelFacts } from "./types.ts";

/** What the planner wants to know. */
export function modelFacts(_model: Model): ModelFacts {
  throw new Error("not written yet");
}
