import { readFileSync } from "node:fs";
import { usage } from "../../errors.ts";

export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return usage(`cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`);
  }
}
