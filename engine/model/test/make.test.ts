import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { inspectModel, makeModel, openModel } from "../index.ts";

const scratch = mkdtempSync(join(tmpdir(), "kernlock-make-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const digest = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

describe("make-model", () => {
  it("writes a layer in the real widths that opens, the same bytes for the same seed", () => {
    const make = (name: string, seed: number): string => {
      const folder = join(scratch, name);
      makeModel({ shape: "gpt-oss-20b", seed, layers: 1, experts: 4, vocab: 2000, folder, shardBytes: 5e7 });
      return folder;
    };
    const first = make("first", 7);
    const model = openModel(first);
    try {
      expect(model.expertFormat).toBe("mxfp4");
      expect(model.config.layers).toBe(1);
      expect(model.files.length).toBeGreaterThan(1);
      expect(inspectModel(model).name).toBe("first");
    } finally {
      model.close();
    }
    const shard = readdirSync(first).find((name) => name.startsWith("model-00002-of-")) ?? "";
    const digests = [first, make("again", 7), make("other", 8)].map((folder) => digest(join(folder, shard)));
    expect(digests[1]).toBe(digests[0]);
    expect(digests[2]).not.toBe(digests[0]);
  });

  it("refuses a folder that holds something, and more layers than the shape has", () => {
    const folder = join(scratch, "full");
    expect(() => makeModel({ shape: "gpt-oss-20b", seed: 1, layers: 25, folder })).toThrow(/layers/);
    mkdirSync(folder);
    writeFileSync(join(folder, "note"), "");
    expect(() => makeModel({ shape: "gpt-oss-20b", seed: 1, layers: 1, folder })).toThrow(/not empty/);
  });
});
