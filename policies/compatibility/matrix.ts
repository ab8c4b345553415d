import type { ModelFacts, Outcome } from "./types.ts";

export interface MatrixFacts {
  readonly model: ModelFacts;
}
export interface MatrixRow {
  readonly id: string;
  readonly when: string;
  readonly applies: (facts: MatrixFacts) => boolean;
  readonly outcome: Outcome;
  readonly reason: string;
  readonly remedy: string;
  readonly source: string;
}
export const matrix: readonly MatrixRow[] = [];
export function renderMatrix(): string {
  return "";
}
