import { describe, expect, test } from "vitest";
import {
  canonicalJson,
  digestOf,
  formatVariant,
  parseVariant,
  payloadFiles,
  type Variant,
  workspaceBytes,
} from "../index.ts";

const file = (path: string, kind: Variant["files"][number]["kind"]) => ({
  path,
  kind,
  digest: digestOf(path),
  size: 10,
});
const good = (): Variant => ({
  schema: "kernlock.variant/v1",
  package: "kernlock/mxfp4",
  version: "0.1.0",
  variant: "linux-x86_64-cpu-v3",
  abi: 0,
  abi_build: digestOf("abi"),
  platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
  backend: { kind: "cpu", level: "x86-64-v3" },
  files: [file("LICENSE", "license"), file("README.md", "card"), file("mxfp4.so", "shared-object")],
  ops: [
    {
      name: "moe",
      path: "cpp",
      covers: ["moe_up", "moe_down"],
      mode: "f32",
      file: "mxfp4.so",
      dtypes: { activation: ["f32"], stream: ["f32"] },
      layouts: ["mxfp4.rows"],
      limits: { hidden: { multipleOf: 32 }, top_k: { min: 1, max: 16 } },
      features: ["batch_invariant"],
      workspace: { scratch: [{ bytes: 4, dims: ["tokens", "hidden"] }], state: [] },
    },
  ],
  license: "Apache-2.0",
});

// biome-ignore lint/suspicious/noExplicitAny: edits make the value wrong on purpose
type Edit = (v: any) => void;
const edited = (edit: Edit): string => {
  const value = structuredClone(good());
  edit(value);
  return canonicalJson(value);
};

describe("variant.json", () => {
  test("is read back as it was written", () => {
    expect(parseVariant(formatVariant(good()))).toEqual(good());
    expect(payloadFiles(good()).map((f) => f.path)).toEqual(["mxfp4.so"]);
  });

  test.each<[string, string, Edit]>([
    ["an unknown field", "KL_VARIANT_SHAPE", (v) => (v.extra = 1)],
    ["an unknown field of an op", "KL_VARIANT_SHAPE", (v) => (v.ops[0].extra = 1)],
    ["a missing field", "KL_VARIANT_SHAPE", (v) => delete v.license],
    ["another schema", "KL_VARIANT_SHAPE", (v) => (v.schema = "kernlock.variant/v2")],
    ["a path that climbs", "KL_VARIANT_SHAPE", (v) => (v.files[2].path = "../x.so")],
    ["an absolute path", "KL_VARIANT_SHAPE", (v) => (v.files[2].path = "/x.so")],
    ["a control character in a path", "KL_VARIANT_SHAPE", (v) => (v.files[2].path = "x\u0007.so")],
    ["a malformed digest", "KL_VARIANT_SHAPE", (v) => (v.files[0].digest = "sha256:00")],
    ["a negative size", "KL_VARIANT_SHAPE", (v) => (v.files[0].size = -1)],
    ["an empty file", "KL_VARIANT_SHAPE", (v) => (v.files[0].size = 0)],
    ["an op that nobody knows", "KL_VARIANT_SHAPE", (v) => (v.ops[0].name = "mine_bitcoin")],
    ["a limit on an unknown size", "KL_VARIANT_SHAPE", (v) => (v.ops[0].limits.moon = { max: 1 })],
    ["a workspace of an unknown size", "KL_VARIANT_SHAPE", (v) => (v.ops[0].workspace.scratch[0].dims = ["moon"])],
    ["a workspace of fractions", "KL_VARIANT_SHAPE", (v) => (v.ops[0].workspace.scratch[0].bytes = 0.5)],
    ["a feature twice", "KL_VARIANT_SHAPE", (v) => (v.ops[0].features = ["pdl", "pdl"])],
    ["files out of order", "KL_VARIANT_FILE_ORDER", (v) => v.files.reverse()],
    ["a file twice", "KL_VARIANT_FILE_ORDER", (v) => v.files.push(v.files[2])],
    ["an op in a missing file", "KL_VARIANT_FILE_UNKNOWN", (v) => (v.ops[0].file = "other.so")],
    ["an op in the card", "KL_VARIANT_FILE_UNKNOWN", (v) => (v.ops[0].file = "README.md")],
    ["nodes that the op does not cover", "KL_VARIANT_COVERS", (v) => v.ops[0].covers.push("residual")],
    ["nodes in another order", "KL_VARIANT_COVERS", (v) => v.ops[0].covers.reverse()],
    ["an op twice", "KL_VARIANT_OP_DUPLICATE", (v) => v.ops.push(v.ops[0])],
    ["an op without its dtypes", "KL_VARIANT_OP_FACTS", (v) => delete v.ops[0].dtypes.stream],
    ["a cache dtype where there is no cache", "KL_VARIANT_OP_FACTS", (v) => (v.ops[0].dtypes.kv = ["f32"])],
    ["an op without its layouts", "KL_VARIANT_OP_FACTS", (v) => delete v.ops[0].layouts],
    ["a limit that nothing meets", "KL_VARIANT_OP_FACTS", (v) => (v.ops[0].limits.top_k = { min: 3, max: 2 })],
    ["a key of another level", "KL_VARIANT_KEY", (v) => (v.variant = "linux-x86_64-cpu-v4")],
    ["a key of another backend", "KL_VARIANT_KEY", (v) => (v.variant = "linux-x86_64-cuda-v3")],
  ])("refuses %s", (_, code, edit) => {
    expect(() => parseVariant(edited(edit))).toThrow(expect.objectContaining({ code }));
  });

  test("says where the first wrong field is", () => {
    expect(() => parseVariant(edited((v) => (v.ops[0].limits.hidden.max = "big")))).toThrow(
      expect.objectContaining({ details: { field: "ops[0].limits.hidden.max" } }),
    );
    expect(() => parseVariant(edited((v) => (v.ops[0].evil = 1)))).toThrow(
      "variant.json: ops[0].evil: is not a known field.",
    );
  });

  test("refuses workspace for an op that takes none", () => {
    const norm: Edit = (v) => {
      v.ops[0] = { ...v.ops[0], name: "rmsnorm", covers: ["norm"] };
      delete v.ops[0].layouts;
    };
    expect(() => parseVariant(edited(norm))).toThrow(expect.objectContaining({ code: "KL_VARIANT_OP_FACTS" }));
  });

  test("CUDA variants name their architectures", () => {
    const cuda: Edit = (v) => {
      v.variant = "linux-x86_64-cuda-sm90a";
      v.backend = { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" };
    };
    expect(parseVariant(edited(cuda)).backend.kind).toBe("cuda");
    const other: Edit = (v) => {
      cuda(v);
      v.variant = "linux-x86_64-cuda-sm100a";
    };
    expect(() => parseVariant(edited(other))).toThrow(expect.objectContaining({ code: "KL_VARIANT_KEY" }));
  });

  test("CUDA variants of PTX alone name its targets", () => {
    const of =
      (variant: string, architectures: string[], ptx: string[]): Edit =>
      (v) => {
        v.variant = variant;
        v.backend = { kind: "cuda", architectures, ptx, driver: "13.0" };
      };
    const codeOf = (edit: Edit) => {
      try {
        parseVariant(edited(edit));
        return "accepted";
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(codeOf(of("linux-x86_64-cuda-ptx90", [], ["sm_90"]))).toBe("accepted");
    expect(codeOf(of("linux-x86_64-cuda-ptx90a", [], ["sm_90a"]))).toBe("accepted");
    expect(codeOf(of("linux-x86_64-cuda-sm80", ["sm_80"], ["sm_90"]))).toBe("accepted");
    expect(codeOf(of("linux-x86_64-cuda-sm90", [], ["sm_90"]))).toBe("KL_VARIANT_KEY");
    expect(codeOf(of("linux-x86_64-cuda-ptx90", ["sm_80"], ["sm_90"]))).toBe("KL_VARIANT_KEY");
    for (const [architectures, ptx] of [
      [[], []],
      [[], ["compute_90"]],
      [[], ["sm_90", "sm_90"]],
      [["sm_90a", "sm_90a"], []],
    ] as string[][][]) {
      expect(codeOf(of("linux-x86_64-cuda", architectures!, ptx!)), `${architectures} ${ptx}`).toBe("KL_VARIANT_SHAPE");
    }
  });
});

describe("workspace rules", () => {
  test("terms are rounded up to 64 bytes each and added", () => {
    expect(workspaceBytes([], {})).toBe(0);
    expect(
      workspaceBytes(
        [
          { bytes: 4, dims: ["tokens", "hidden"] },
          { bytes: 1, dims: [] },
        ],
        { tokens: 3, hidden: 32 },
      ),
    ).toBe(384 + 64);
    expect(workspaceBytes([{ bytes: 4, dims: ["tokens"] }], { tokens: 0 })).toBe(0);
  });
  test("a size that is missing, or a sum beyond counting, is refused", () => {
    const code = "KL_VARIANT_WORKSPACE";
    expect(() => workspaceBytes([{ bytes: 4, dims: ["seqs"] }], { tokens: 3 })).toThrow(
      expect.objectContaining({ code }),
    );
    const huge = { tokens: 2 ** 30, hidden: 2 ** 30 };
    expect(() => workspaceBytes([{ bytes: 4, dims: ["tokens", "hidden"] }], huge)).toThrow(
      expect.objectContaining({ code }),
    );
  });
});
