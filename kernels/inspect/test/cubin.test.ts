import { describe, expect, test } from "vitest";
import { KernlockError } from "../../format/index.ts";
import { inspectCubin, inspectFatbin, readDeviceImage } from "../index.ts";
import { addKernel, type Crafted, craftCubin, craftFatbin, param, record, sm80, sm90a } from "./craft-cubin.ts";

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return error.code;
  }
};

test("a cubin tells its architecture, kernels, registers, shared memory, parameters and threads", () => {
  const facts = inspectCubin(craftCubin());
  expect(facts).toMatchObject({
    architecture: "sm_90a",
    kernels: [
      {
        name: "add",
        registers: 20,
        // The driver's own KiB is not the kernel's.
        sharedBytes: 64,
        params: [
          { offset: 0, size: 8 },
          { offset: 8, size: 4 },
        ],
        requiredThreads: [128, 1, 1],
        maximumThreads: null,
      },
    ],
    placeNames: [],
  });
  expect(facts.size).toBe(craftCubin().byteLength);
  expect(inspectCubin(craftCubin(sm80)).kernels[0]?.sharedBytes).toBe(1024 + 64);
});

test.each<[string, Crafted, string]>([
  ["the new layout, plain", { ...sm90a, compat: Buffer.from([2, 9, 0, 0]), told: "sm_90" }, "sm_90"],
  ["the new layout, accelerated", sm90a, "sm_90a"],
  ["the new layout, accelerated by a flag", { flags: 0x600640a, compat: Buffer.alloc(0), told: null }, "sm_100a"],
  ["Triton's flags", { flags: 0x900640a, compat: Buffer.alloc(0), told: null }, "sm_100a"],
  ["a family, by its note alone", { flags: 0x6006402, compat: Buffer.alloc(0), told: "sm_100f" }, "sm_100f"],
  ["the old layout, plain", { abi: [0x33, 7], flags: 0x500550, compat: Buffer.alloc(0), told: null }, "sm_80"],
  ["the old layout, accelerated", { abi: [0x33, 7], flags: 0x5a0d5a, compat: Buffer.alloc(0), told: null }, "sm_90a"],
])("%s", (_what, how, architecture) => {
  expect(inspectCubin(craftCubin(how)).architecture).toBe(architecture);
});

describe("a cubin is refused", () => {
  const kernel = (change: Partial<typeof addKernel>): Crafted => ({ kernels: [{ ...addKernel, ...change }] });
  test.each<[string, Crafted, string]>([
    ["of another machine", { machine: 62 }, "KL_CUBIN_MAGIC"],
    ["that is not linked", { type: 1 }, "KL_CUBIN_MAGIC"],
    ["of an unknown layout", { abi: [0x42, 8] }, "KL_CUBIN_ARCHITECTURE"],
    ["with unknown flags", { flags: 0x6005a44 }, "KL_CUBIN_FLAGS"],
    ["with flags of an unknown tool", { flags: 0x7005a04 }, "KL_CUBIN_FLAGS"],
    ["of the old layout with unknown flags", { abi: [0x33, 7], flags: 0x5a1d5a }, "KL_CUBIN_FLAGS"],
    ["for a GPU that there is not", { flags: 0x6000104, told: null }, "KL_CUBIN_ARCHITECTURE"],
    ["whose note contradicts its flags", { told: "sm_80" }, "KL_CUBIN_ARCHITECTURE"],
    ["whose note leaves out the mark", { told: "sm_90" }, "KL_CUBIN_ARCHITECTURE"],
    ["with a section twice", { extra: [{ name: ".nv.info", bytes: Buffer.alloc(0) }] }, "KL_CUBIN_SECTION"],
    ["with broken attributes", { compat: Buffer.from([9, 9, 9, 9]) }, "KL_CUBIN_SECTION"],
    ["with attributes that end early", { compat: Buffer.from([4, 9, 9, 0]) }, "KL_CUBIN_SECTION"],
    ["with a kernel whose code lies elsewhere", kernel({ section: ".text.other" }), "KL_CUBIN_ENTRY"],
    ["with a kernel without registers", { kernels: [{ name: "add" }] }, "KL_CUBIN_ENTRY"],
    ["with a kernel of absurd registers", kernel({ registers: 9999 }), "KL_CUBIN_ENTRY"],
    ["with a parameter twice", kernel({ info: Buffer.concat([param(0, 0, 8), param(0, 8, 8)]) }), "KL_CUBIN_ENTRY"],
    ["with a parameter missing", kernel({ info: Buffer.concat([param(0, 0, 8), param(2, 8, 8)]) }), "KL_CUBIN_ENTRY"],
    ["with a malformed parameter", kernel({ info: record(0x17, 0, 0) }), "KL_CUBIN_ENTRY"],
    ["with a malformed block size", kernel({ info: record(0x10, 128) }), "KL_CUBIN_ENTRY"],
    ["with a name that terminals obey", kernel({ name: "\u001b[2J" }), "KL_CUBIN_SECTION"],
  ])("%s", (_what, how, code) => {
    expect(codeOf(() => inspectCubin(craftCubin(how)))).toBe(code);
  });

  test("cut anywhere", () => {
    const whole = craftCubin();
    for (let length = 0; length < whole.length; length++)
      expect(codeOf(() => inspectCubin(whole.subarray(0, length)))).toMatch(/^KL_CUBIN_/);
  });

  test("with something after its end, as a file", () => {
    const file = Buffer.concat([craftCubin(), Buffer.from("more")]);
    expect(codeOf(() => readDeviceImage(file))).toBe("KL_CUBIN_SECTION");
  });
});

const ptx = (target: string) => Buffer.from(`\n.version 9.0\n.target ${target}\n.address_size 64\n\0`);

test("a fatbin tells its cubins and its PTX, packed or not", () => {
  const bytes = craftFatbin([
    { payload: craftCubin() },
    { payload: craftCubin(sm80), architecture: 80, flags: 0x8011n, zstd: true },
    { kind: 1, payload: ptx("sm_90"), flags: 0x8011n, zstd: true },
  ]);
  const { entries, size } = inspectFatbin(bytes);
  expect(size).toBe(bytes.length);
  expect(entries.map((e) => [e.kind, e.architecture])).toEqual([
    ["elf", "sm_90a"],
    ["elf", "sm_80"],
    ["ptx", "sm_90"],
  ]);
  const two = readDeviceImage(Buffer.concat([bytes, craftFatbin([{ payload: craftCubin() }])]));
  expect(two.cubins.map((c) => c.architecture)).toEqual(["sm_90a", "sm_80", "sm_90a"]);
  expect(two.ptx).toEqual([{ target: "sm_90", version: "9.0" }]);
});

describe("a fatbin is refused", () => {
  const good = { payload: craftCubin() };
  const huge = Buffer.alloc(1 << 20);
  test.each<[string, Buffer, string]>([
    ["with another magic", craftFatbin([good], { magic: 1 }), "KL_FATBIN_MAGIC"],
    ["that is empty", craftFatbin([]), "KL_FATBIN_ENTRY"],
    ["that is longer than the file", craftFatbin([good], { body: 1 << 20 }), "KL_FATBIN_TRUNCATED"],
    ["that is longer than any file", craftFatbin([good], { body: 2 ** 52 }), "KL_FATBIN_ENTRY"],
    ["with unknown flags", craftFatbin([{ ...good, flags: 0x102011n }]), "KL_FATBIN_FLAGS"],
    ["without the flags that all have", craftFatbin([{ ...good, flags: 0x100001n }]), "KL_FATBIN_FLAGS"],
    ["with an entry of an unknown kind", craftFatbin([{ ...good, kind: 16 }]), "KL_FATBIN_ENTRY"],
    ["with an entry of an unknown version", craftFatbin([{ ...good, version: 0x0102 }]), "KL_FATBIN_ENTRY"],
    ["with an entry that is too long", craftFatbin([{ ...good, size: 1 << 20 }]), "KL_FATBIN_ENTRY"],
    ["with an empty entry", craftFatbin([{ ...good, size: 0 }]), "KL_FATBIN_ENTRY"],
    ["with a header that is too short", craftFatbin([{ ...good, header: 32 }]), "KL_FATBIN_ENTRY"],
    ["whose entry says another architecture", craftFatbin([{ ...good, architecture: 80 }]), "KL_FATBIN_ENTRY"],
    ["whose entry leaves out the mark", craftFatbin([{ ...good, flags: 0x11n }]), "KL_FATBIN_ENTRY"],
    [
      "whose PTX has another target",
      craftFatbin([{ kind: 1, payload: ptx("sm_80"), flags: 0x11n }]),
      "KL_FATBIN_ENTRY",
    ],
    [
      "whose PTX has another target than a comment says",
      craftFatbin([
        { kind: 1, payload: Buffer.from(".version 9.0 // .target sm_90\n.target sm_80\n\0"), flags: 0x11n },
      ]),
      "KL_FATBIN_ENTRY",
    ],
    [
      "whose PTX leaves out the mark",
      craftFatbin([{ kind: 1, payload: ptx("sm_90"), flags: 0x100011n }]),
      "KL_FATBIN_ENTRY",
    ],
    [
      "whose PTX has no version",
      craftFatbin([{ kind: 1, payload: Buffer.from(".target sm_90\n\0"), flags: 0x11n }]),
      "KL_FATBIN_ENTRY",
    ],
    ["whose PTX is none", craftFatbin([{ kind: 1, payload: Buffer.alloc(64), flags: 0x11n }]), "KL_FATBIN_ENTRY"],
    ["that unpacks to more than it says", craftFatbin([{ payload: huge, zstd: true, whole: 4096 }]), "KL_FATBIN_ENTRY"],
    ["that unpacks to less than it says", craftFatbin([{ ...good, zstd: true, whole: 1 << 20 }]), "KL_FATBIN_ENTRY"],
    ["that says it unpacks to a terabyte", craftFatbin([{ ...good, zstd: true, whole: 2 ** 40 }]), "KL_FATBIN_ENTRY"],
    ["whose packing is broken", craftFatbin([{ ...good, flags: 0x108011n, whole: 4096 }]), "KL_FATBIN_ENTRY"],
    ["with too many entries", craftFatbin(Array.from({ length: 65 }, () => good)), "KL_FATBIN_ENTRY"],
    ["with a broken cubin in it", craftFatbin([{ payload: craftCubin({ type: 1 }) }]), "KL_CUBIN_MAGIC"],
  ])("%s", (_what, bytes, code) => {
    expect(codeOf(() => inspectFatbin(bytes))).toBe(code);
  });
});

test("hostile bytes give coded errors or facts, never anything else", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const samples = [
    craftCubin(),
    craftFatbin([{ payload: craftCubin() }, { kind: 1, payload: ptx("sm_90"), flags: 0x8011n, zstd: true }]),
  ];
  const codes = new Set<string>();
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(samples[round % 2]!);
    for (let n = 1 + random(4); n > 0; n--) {
      const at = random(bytes.length);
      bytes[at] = [0, 0xff, 0x7f, 0x80, random(256)][random(5)]!;
    }
    codes.add(codeOf(() => readDeviceImage(bytes)));
  }
  for (const code of codes) expect(code).toMatch(/^(accepted|KL_CUBIN_[A-Z]+|KL_FATBIN_[A-Z]+)$/);
  expect(codes.size).toBeGreaterThan(6);
});
