import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openModel } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import {
  copyOf,
  editJson,
  type Header,
  type Parts,
  readParts,
  refusal,
  temporaryFolder,
  writeParts,
} from "./checkpoints.ts";

const index = "model.safetensors.index.json";
const shard = (n: number): string => `model-0000${n}-of-00003.safetensors`;
const kProjBias = "model.layers.1.self_attn.k_proj.bias";

/** Opens a copy of the sharded golden model in which one thing is wrong. */
function broken(damage: (folder: string) => void) {
  const folder = copyOf("tiny-mxfp4-sharded");
  damage(folder);
  return refusal(folder);
}

function brokenShard(n: number, damage: (parts: Parts) => void) {
  return broken((folder) => {
    const parts = readParts(join(folder, shard(n)));
    damage(parts);
    writeParts(join(folder, shard(n)), parts.header, parts.data);
  });
}

/** Tensors of a header in the order of their bytes. */
const inOrder = (header: Header): string[] =>
  Object.keys(header)
    .filter((name) => name !== "__metadata__")
    .sort((a, b) => header[a]!.data_offsets[0] - header[b]!.data_offsets[0]);

it("opens the unharmed copy", () => {
  const model = openModel(copyOf("tiny-mxfp4-sharded"));
  expect(model.files).toHaveLength(3);
  expect(model.tensors.size).toBe(41);
  model.close();
});

it("leaves no descriptor open after a refusal", () => {
  const open = (): number => readdirSync("/proc/self/fd").length;
  const folder = copyOf("tiny-mxfp4-sharded");
  truncateSync(join(folder, shard(3)), 1000);
  const before = open();
  refusal(folder);
  expect(open()).toBe(before);
});

describe("safetensors files", () => {
  it.each([0, 7])("of %i bytes", (size) => {
    expect(broken((folder) => truncateSync(join(folder, shard(2)), size)).code).toBe("KL_MODEL_TRUNCATED");
  });

  it("cut inside the header", () => {
    expect(broken((folder) => truncateSync(join(folder, shard(2)), 500)).code).toBe("KL_MODEL_TRUNCATED");
  });

  it("cut inside the data, by one byte", () => {
    const damage = (folder: string): void => {
      const path = join(folder, shard(2));
      truncateSync(path, readFileSync(path).length - 1);
    };
    expect(broken(damage).code).toBe("KL_MODEL_TRUNCATED");
  });

  it("with one byte too many", () => {
    const damage = (folder: string) => writeFileSync(join(folder, shard(2)), "!", { flag: "a" });
    expect(broken(damage).code).toBe("KL_MODEL_TENSOR_GAP");
  });

  it.each([
    [0n, "KL_MODEL_HEADER"],
    [2n ** 63n, "KL_MODEL_HEADER"],
    [100_000_000n, "KL_MODEL_HEADER"],
    [2_000_000n, "KL_MODEL_TRUNCATED"],
    [1399n, "KL_MODEL_HEADER"],
    [1439n, "KL_MODEL_HEADER"],
  ])("that state a header of %i bytes", (length, code) => {
    const damage = (folder: string): void => {
      const bytes = readFileSync(join(folder, shard(2)));
      bytes.writeBigUInt64LE(length);
      writeFileSync(join(folder, shard(2)), bytes);
    };
    expect(broken(damage).code).toBe(code);
  });

  it.each([
    [
      "a duplicate name",
      (text: string) => text.replace("{", '{"model.norm.weight":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]},'),
    ],
    ["an unknown dtype", (text: string) => text.replace('"BF16"', '"BF17"')],
    ["a field too many", (text: string) => text.replace('"dtype"', '"strides":[1],"dtype"')],
    ["a negative size", (text: string) => text.replace("[192]", "[-192]")],
    ["a size that is no integer", (text: string) => text.replace("[192]", "[192.5]")],
    ["a size that no double holds", (text: string) => text.replace("[192]", "[9007199254740993]")],
    ["trailing data", (text: string) => `${text.trim()}{}`],
    ["an array", () => "[]"],
    ["metadata that are no strings", (text: string) => text.replace('"pt"', "1")],
    ["a prototype as name", (text: string) => text.replace('"model.norm.weight"', '"__proto__"')],
  ])("with %s in the header", (_what, change) => {
    const damage = (folder: string): void => {
      const { header, data } = readParts(join(folder, shard(2)));
      writeParts(join(folder, shard(2)), change(JSON.stringify(header)), data);
    };
    expect(broken(damage).code).toBe("KL_MODEL_HEADER");
  });

  it("whose tensors overlap", () => {
    const error = brokenShard(2, ({ header }) => {
      const [first, second] = inOrder(header) as [string, string];
      header[second]!.data_offsets = [header[first]!.data_offsets[1] - 2, header[second]!.data_offsets[1] - 2];
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_OVERLAP");
  });

  it("two of whose tensors are the same bytes", () => {
    const error = brokenShard(1, ({ header }) => {
      header["model.layers.0.self_attn.q_proj.bias"]!.data_offsets = [0, 512];
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_OVERLAP");
  });

  it("with a gap", () => {
    const error = brokenShard(2, (parts) => {
      const last = inOrder(parts.header).at(-1)!;
      parts.header[last]!.data_offsets = parts.header[last]!.data_offsets.map((at) => at + 8) as [number, number];
      parts.data = Buffer.concat([parts.data, Buffer.alloc(8)]);
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_GAP");
  });

  it("with offsets past the end", () => {
    const error = brokenShard(2, ({ header, data }) => {
      const last = header[inOrder(header).at(-1)!]!;
      const [begin, end] = last.data_offsets;
      expect(end).toBe(data.length);
      last.shape[0]! *= 2;
      last.data_offsets = [begin, 2 * end - begin];
    });
    expect(error.code).toBe("KL_MODEL_TRUNCATED");
  });

  it("with bytes that do not fit the shape", () => {
    const error = brokenShard(2, ({ header }) => {
      header["model.norm.weight"]!.shape = [191];
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_BYTES");
  });

  it("whose shape has a product beyond all bounds", () => {
    const error = brokenShard(2, ({ header }) => {
      header["model.norm.weight"]!.shape = [2 ** 30, 2 ** 30, 2 ** 30];
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_BYTES");
  });
});

describe("tensors", () => {
  it("missing from file and index", () => {
    const error = broken((folder) => {
      const parts = readParts(join(folder, shard(3)));
      const first = inOrder(parts.header)[0]!;
      expect(first).toBe("lm_head.weight");
      const bytes = parts.header[first]!.data_offsets[1];
      delete parts.header[first];
      for (const name of inOrder(parts.header)) {
        parts.header[name]!.data_offsets = parts.header[name]!.data_offsets.map((at) => at - bytes) as [number, number];
      }
      writeParts(join(folder, shard(3)), parts.header, parts.data.subarray(bytes));
      editJson(join(folder, index), (json) => delete json.weight_map[first]);
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_MISSING");
    expect(error.details.tensor).toBe("lm_head.weight");
  });

  it("of another shape with as many bytes", () => {
    const error = brokenShard(3, ({ header }) => {
      header["model.layers.0.self_attn.o_proj.weight"]!.shape = [256, 192];
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_SHAPE");
    expect(error.message).toContain("[256, 192]");
    expect(error.message).toContain("[192, 256]");
  });

  it.each(["F16", "I16"])("of dtype %s", (dtype) => {
    const error = brokenShard(1, ({ header }) => {
      header["model.embed_tokens.weight"]!.dtype = dtype;
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_DTYPE");
  });

  it("that the model has no place for", () => {
    const error = broken((folder) => {
      const parts = readParts(join(folder, shard(1)));
      const at = parts.data.length;
      parts.header["model.layers.2.input_layernorm.weight"] = { dtype: "BF16", shape: [4], data_offsets: [at, at + 8] };
      writeParts(join(folder, shard(1)), parts.header, Buffer.concat([parts.data, Buffer.alloc(8)]));
      editJson(join(folder, index), (json) => {
        json.weight_map["model.layers.2.input_layernorm.weight"] = shard(1);
      });
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_EXTRA");
  });

  it("at an odd offset", () => {
    const folder = copyOf("tiny-mxfp4-sharded");
    const { header, data } = readParts(join(folder, shard(2)));
    const text = JSON.stringify(header);
    const json = Buffer.from(text.padEnd(text.length + ((text.length + 1) % 2)));
    expect(json.length % 2).toBe(1);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(folder, shard(2)), Buffer.concat([length, json, data]));
    expect(refusal(folder).code).toBe("KL_MODEL_TENSOR_ALIGNMENT");
  });
});

describe("the index", () => {
  it("naming a file that is not there", () => {
    expect(broken((folder) => rmSync(join(folder, shard(2)))).code).toBe("KL_MODEL_FILE");
  });

  it.each(["../model-00002-of-00003.safetensors", "/etc/passwd", "a/b.safetensors", ".hidden.safetensors", "", 7])(
    "naming %j",
    (path) => {
      const error = broken((folder) =>
        editJson(join(folder, index), (json) => {
          json.weight_map["model.norm.weight"] = path;
        }),
      );
      expect(error.code).toBe("KL_MODEL_INDEX_PATH");
    },
  );

  it("giving a tensor to another file", () => {
    const error = broken((folder) =>
      editJson(join(folder, index), (json) => {
        json.weight_map["model.norm.weight"] = shard(1);
      }),
    );
    expect(error.code).toBe("KL_MODEL_INDEX");
  });

  it("not naming a tensor that is there", () => {
    const error = broken((folder) =>
      editJson(join(folder, index), (json) => delete json.weight_map["model.norm.weight"]),
    );
    expect(error.code).toBe("KL_MODEL_INDEX");
  });

  it("naming a tensor that no file holds", () => {
    const error = broken((folder) =>
      editJson(join(folder, index), (json) => {
        json.weight_map["model.layers.0.mlp.extra"] = shard(1);
      }),
    );
    expect(error.code).toBe("KL_MODEL_TENSOR_MISSING");
  });

  it("of shards that hold one tensor twice", () => {
    const error = broken((folder) => {
      const parts = readParts(join(folder, shard(3)));
      const at = parts.data.length;
      parts.header[kProjBias] = { dtype: "BF16", shape: [64], data_offsets: [at, at + 128] };
      writeParts(join(folder, shard(3)), parts.header, Buffer.concat([parts.data, Buffer.alloc(128)]));
    });
    expect(error.code).toBe("KL_MODEL_TENSOR_DUPLICATE");
  });

  it("without a weight map", () => {
    expect(broken((folder) => writeFileSync(join(folder, index), "{}")).code).toBe("KL_MODEL_INDEX");
  });

  it("naming one tensor twice", () => {
    const damage = (folder: string): void => {
      const text = readFileSync(join(folder, index), "utf8");
      const twice = text.replace('"weight_map": {', `"weight_map": { "model.norm.weight": "${shard(1)}",`);
      writeFileSync(join(folder, index), twice);
    };
    expect(broken(damage).code).toBe("KL_JSON_DUPLICATE_KEY");
  });

  it("beside a whole file", () => {
    const error = broken((folder) => linkSync(join(folder, shard(1)), join(folder, "model.safetensors")));
    expect(error.code).toBe("KL_MODEL_INDEX");
  });
});

describe("the folder", () => {
  it("that is not there", () => {
    expect(refusal("/nowhere/at/all").code).toBe("KL_MODEL_NOT_FOUND");
  });

  it("without config.json", () => {
    expect(refusal(temporaryFolder()).code).toBe("KL_MODEL_FILE");
  });

  it("without weights", () => {
    expect(broken((folder) => rmSync(join(folder, index))).code).toBe("KL_MODEL_FILE");
  });

  it("with a folder in the place of a file", () => {
    const error = broken((folder) => {
      rmSync(join(folder, shard(1)));
      mkdirSync(join(folder, shard(1)));
    });
    expect(error.code).toBe("KL_MODEL_FILE");
  });

  it.each(["config.json", shard(1), index])("with a symbolic link for %s", (name) => {
    const error = broken((folder) => {
      const elsewhere = join(temporaryFolder(), "target");
      linkSync(join(folder, name), elsewhere);
      rmSync(join(folder, name));
      symlinkSync(elsewhere, join(folder, name));
    });
    expect(error.code).toBe("KL_MODEL_SYMLINK");
  });

  it("whose generation config stops at an id that does not exist", () => {
    const error = broken((folder) => writeFileSync(join(folder, "generation_config.json"), '{"eos_token_id":[640]}'));
    expect(error.code).toBe("KL_MODEL_GENERATION");
  });
});
