import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import {
  createTemplateRenderer,
  describeModel,
  formatInspection,
  inspectModel,
  loadTokenizer,
  type ModelDescription,
  modelFromDescription,
  openModel,
} from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import { copyOf, editJson, refusalOf } from "./checkpoints.ts";

const dictionary = join(import.meta.dirname, "../../../models/dictionary");

describe("a described model", () => {
  it("is the same from its descriptors alone", async () => {
    const model = openModel(dictionary);
    const description: ModelDescription = JSON.parse(JSON.stringify(describeModel(model)));
    expect(JSON.stringify(description)).not.toContain(dictionary);
    const fds = model.files.map((file) => openSync(file.path, "r"));
    const expected = inspectModel(model);
    model.close();

    const copy = modelFromDescription(description, fds);
    expect(inspectModel(copy)).toEqual(expected);
    expect(copy.tensors).toEqual(model.tensors);
    const tokenizer = loadTokenizer(copy)!;
    await using renderer = await createTemplateRenderer(copy, tokenizer);
    copy.close();
    const { text, pieces } = await renderer.render({ messages: [{ role: "user", content: "hello" }] });
    expect(tokenizer.decode(tokenizer.encodePieces(pieces))).toBe(text);
    expect(text).toContain("<|start|>user<|message|>hello<|end|>");
  });

  it("is refused with other files", () => {
    const model = openModel(dictionary);
    const description = describeModel(model);
    const fds = model.files.map((file) => file.fd);
    for (const wrong of [[], fds.slice(1), [...fds, 0], fds.toReversed()]) {
      expect(refusalOf(() => modelFromDescription(description, wrong)).code).toBe("KL_MODEL_DESCRIPTION");
    }
    const other = { ...description, schema: "kernlock.model/v1" } as unknown as ModelDescription;
    expect(refusalOf(() => modelFromDescription(other, fds)).code).toBe("KL_MODEL_DESCRIPTION");
    model.close();
  });

  it("closes its descriptors once", () => {
    const model = openModel(dictionary);
    const { fd } = model.files[0]!;
    model.close();
    const again = openSync(dictionary, "r");
    model.close();
    expect(again).toBeLessThanOrEqual(fd);
    closeSync(again);
  });
});

describe("an inspected model", () => {
  it("is counted", () => {
    const model = openModel(dictionary);
    const { parameters, bytes, quantization, weights } = inspectModel(model);
    model.close();
    expect(parameters.total).toBe(13_559_136);
    // Four of eight experts, and no embedding table.
    const experts = weights.find(({ kind }) => kind === "experts")!.parameters;
    expect(parameters.activePerToken).toBe(parameters.total - experts / 2 - 4096 * 256);
    expect(bytes).toEqual({ total: 13_257_408, dequantized: 2 * 13_559_136 });
    expect(quantization).toMatchObject({ declared: "mxfp4", found: "mxfp4", agree: true });
  });

  it("may declare something else than it holds", () => {
    const folder = copyOf("tiny-mxfp4");
    editJson(join(folder, "config.json"), (json) => Reflect.deleteProperty(json, "quantization_config"));
    const model = openModel(folder);
    const inspection = inspectModel(model);
    model.close();
    expect(inspection.quantization).toMatchObject({ declared: null, found: "mxfp4", agree: false });
    expect(formatInspection(inspection)).toContain("declares no quantisation, but the experts are MXFP4");
  });

  it("reads as words", () => {
    const model = openModel(dictionary);
    const text = formatInspection(inspectModel(model));
    model.close();
    expect(text).toContain("13,559,136 in all");
    expect(text).toContain("3 sliding with a window of 32, 3 full");
    expect(text).toMatch(/model\.safetensors\s+13\.27 MB/);
  });
});
