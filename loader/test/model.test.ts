import { closeSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkModel, pinModel } from "../index.ts";
import { codeOf, newFolder } from "./kit.ts";

function checkpoint(): string {
  const folder = newFolder();
  writeFileSync(join(folder, "config.json"), "{}");
  writeFileSync(join(folder, "model.safetensors"), "weights");
  writeFileSync(join(folder, "tokenizer.json"), "{}");
  writeFileSync(join(folder, "README.md"), "not part of it");
  return folder;
}

test("a pinned model is itself", () => {
  const folder = checkpoint();
  const pinned = pinModel(folder);
  expect(pinned.files.map(({ path }) => path)).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  writeFileSync(join(folder, "README.md"), "said otherwise");
  expect(() => checkModel(pinned, folder)).not.toThrow();
  const seen: number[] = [];
  checkModel(pinned, folder, [], (done, total) => seen.push(done / total));
  expect(seen.at(-1)).toBe(1);
});

describe("a model is refused", () => {
  const cases: [string, (folder: string) => void][] = [
    ["with other bytes of the same length", (folder) => writeFileSync(join(folder, "model.safetensors"), "WEIGHTS")],
    ["with another length", (folder) => writeFileSync(join(folder, "model.safetensors"), "weights and more")],
    ["with another configuration", (folder) => writeFileSync(join(folder, "config.json"), "[]")],
    ["without a file", (folder) => rmSync(join(folder, "tokenizer.json"))],
    ["with a chat template that nobody pinned", (folder) => writeFileSync(join(folder, "chat_template.jinja"), "x")],
    ["with weights that nobody pinned", (folder) => writeFileSync(join(folder, "model-2.safetensors"), "x")],
  ];
  test.each(cases)("%s", async (_, spoil) => {
    const folder = checkpoint();
    const pinned = pinModel(folder);
    spoil(folder);
    expect(await codeOf(() => checkModel(pinned, folder))).toBe("KL_LOCK_MODEL");
  });

  test("when the descriptor that will be read is not that of the file under the path", async () => {
    const folder = checkpoint();
    const pinned = pinModel(folder);
    const path = join(folder, "model.safetensors");
    renameSync(path, `${path}.good`);
    writeFileSync(path, "WEIGHTS");
    const fd = openSync(path, "r");
    renameSync(`${path}.good`, path);
    expect(await codeOf(() => checkModel(pinned, folder))).toBe("no refusal");
    expect(await codeOf(() => checkModel(pinned, folder, [{ path, fd }]))).toBe("KL_LOCK_MODEL");
    closeSync(fd);
  });
});

test("a folder without a model cannot be pinned", async () => {
  expect(await codeOf(() => pinModel(newFolder()))).toBe("KL_LOCK_MODEL");
});
