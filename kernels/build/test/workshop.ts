import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BuildOptions, type BuildResult, buildPackage } from "../index.ts";

export const revision = "0123456789abcdef0123456789abcdef01234567";
const fixture = join(import.meta.dirname, "fixtures", "tiny");

// biome-ignore lint/suspicious/noExplicitAny: edits make the document wrong on purpose
export type Edit = (kernel: any) => void;

/** A copy of the tiny package in a folder of its own, and builds of it. */
export class Workshop {
  readonly folder = mkdtempSync(join(tmpdir(), "kernlock-workshop-"));
  readonly packageFolder = join(this.folder, "tiny");
  readonly out = join(this.folder, "layout");

  constructor() {
    cpSync(fixture, this.packageFolder, { recursive: true });
  }

  write(path: string, text: string): this {
    writeFileSync(join(this.packageFolder, path), text);
    return this;
  }

  /** Appends to a source. */
  append(path: string, text: string): this {
    return this.write(path, readFileSync(join(this.packageFolder, path), "utf8") + text);
  }

  replace(path: string, from: string, to: string): this {
    return this.write(path, readFileSync(join(this.packageFolder, path), "utf8").replace(from, to));
  }

  edit(edit: Edit): this {
    const kernel = JSON.parse(readFileSync(join(this.packageFolder, "kernel.json"), "utf8"));
    edit(kernel);
    return this.write("kernel.json", JSON.stringify(kernel));
  }

  build(options: Partial<BuildOptions> = {}): Promise<BuildResult> {
    const { packageFolder, out } = this;
    return buildPackage({ packageFolder, out, builderId: "https://builder.example/ci", revision, ...options });
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
