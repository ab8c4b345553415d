import { harmless, library } from "../../../kernels/inspect/test/craft.ts";
import { addKernel, craftCubin, craftFatbin, param, record, sm80 } from "../../../kernels/inspect/test/craft-cubin.ts";
import { type Attack, inspected, type Loose, type Twist } from "../attack.ts";
import { libraries } from "../pack.ts";

type Row = [number: Attack["number"], name: string, refused: `KL_${string}` | Attack["refused"], twist: Twist];

const image = (bytes: Uint8Array, change?: (step: Loose, variant: Loose) => unknown): Twist => ({
  image: bytes,
  ...(change ? { config: (variant) => change(variant.ops[0].launch.steps[0], variant) } : {}),
});
const good = craftCubin();
const launch = (change: (step: Loose, variant: Loose) => unknown) => image(good, change);
const kernel = (change: object) => image(craftCubin({ kernels: [{ ...addKernel, ...change }] }));
const carrying = (bytes: Uint8Array) =>
  library(`${harmless}
extern "C" __attribute__((used, aligned(64))) const unsigned char image[] = {${[...bytes].join(",")}};`);
const text = (target: string) => Buffer.from(`.version 8.0\n.target ${target}\n\0`);
const differs = "KL_IMAGE_LAUNCH";

const rows: Row[] = [
  [107, "an image for another GPU than it says", "KL_IMAGE_ARCHITECTURE", image(craftCubin(sm80))],
  [
    107,
    "a fatbin with more architectures than it says",
    "KL_IMAGE_ARCHITECTURE",
    image(craftFatbin([{ payload: good }, { payload: craftCubin(sm80), architecture: 80, flags: 0x11n }])),
  ],
  [107, "a cubin whose marks contradict each other", "KL_CUBIN_ARCHITECTURE", image(craftCubin({ told: "sm_80" }))],
  [
    107,
    "PTX that nobody declared, which the driver would compile",
    "KL_IMAGE_PTX",
    image(craftFatbin([{ payload: good }, { kind: 1, payload: Buffer.from(".version 8.0\n.target sm_90a\n") }])),
  ],
  [
    107,
    "declared PTX that is not there",
    { publish: "KL_IMAGE_PTX", load: "KL_VERDICT_PTX" },
    launch((_, v) => (v.backend.ptx = ["sm_90a"])),
  ],
  [
    107,
    "PTX for another target than it says",
    { publish: "KL_IMAGE_PTX", load: "KL_VERDICT_PTX" },
    image(
      craftFatbin([{ payload: good }, { kind: 1, payload: text("sm_90a") }]),
      (_, v) => (v.backend.ptx = ["sm_80"]),
    ),
  ],
  [
    107,
    "PTX in an image, with which no launch can be compared",
    { publish: "KL_IMAGE_PTX", load: "KL_VERDICT_PTX" },
    image(
      craftFatbin([{ payload: good }, { kind: 1, payload: text("sm_90a") }]),
      (_, v) => (v.backend.ptx = ["sm_90a"]),
    ),
  ],
  [
    107,
    "a machine with another GPU",
    { load: "KL_LOAD_NO_VARIANT" },
    { ...image(good), machine: { cuda: { architectures: ["sm_80"], driver: "13.0" }, cpu: { level: "x86-64-v3" } } },
  ],
  [
    107,
    "a machine with an older driver",
    { load: "KL_LOAD_NO_VARIANT" },
    { ...image(good), machine: { cuda: { architectures: ["sm_90a"], driver: "12.8" } } },
  ],
  [
    107,
    "a machine without a driver",
    { load: "KL_LOAD_NO_VARIANT" },
    { ...image(good), machine: { cuda: undefined as never } },
  ],
  [108, "a launch of a kernel that the image has not", "KL_IMAGE_ENTRY", launch((s) => (s.entry = "sub"))],
  [108, "an image with the same launch and another kernel", "KL_IMAGE_ENTRY", kernel({ name: "sub" })],
  [108, "a launch with a parameter too few", differs, launch((s) => s.params.pop())],
  [108, "a launch with a parameter of another size", differs, launch((s) => (s.params[1].type = "i64"))],
  [108, "a launch with more threads", differs, launch((s) => (s.block = [256, 1, 1]))],
  [108, "a launch with more shared memory than there is", differs, launch((s) => (s.shared_bytes = 227 * 1024))],
  [
    108,
    "a kernel that takes other parameters than the signed launch says",
    differs,
    kernel({ info: Buffer.concat([param(0, 0, 8), record(0x10, 128, 1, 1)]) }),
  ],
  [108, "a launch with more threads than any GPU has", "KL_VARIANT_LAUNCH", launch((s) => (s.block = [1024, 2, 1]))],
  [
    108,
    "a launch that passes scratch which the op does not have",
    "KL_VARIANT_LAUNCH",
    launch((s) => (s.params[0] = { kind: "scratch", term: 0 })),
  ],
  [108, "a launch of a file that is not there", "KL_VARIANT_LAUNCH", launch((s) => (s.file = "other.cubin"))],
  [108, "a device image without launch data", "KL_VARIANT_LAUNCH", launch((_, v) => delete v.ops[0].launch)],
  [108, "an entry whose name is a path", "KL_VARIANT_SHAPE", launch((s) => (s.entry = "../../add"))],
  [102, "a cubin cut off", "KL_CUBIN_TRUNCATED", image(good.subarray(0, good.length - 100))],
  [102, "a fatbin cut off", "KL_FATBIN_TRUNCATED", image(craftFatbin([{ payload: good }]).subarray(0, 100))],
  ["own", "a cubin with flags that nobody knows", "KL_CUBIN_FLAGS", image(craftCubin({ flags: 0x6005a44 }))],
  ["own", "a cubin that is not linked", "KL_CUBIN_MAGIC", image(craftCubin({ type: 1 }))],
  [
    "own",
    "a cubin with one section twice",
    "KL_CUBIN_SECTION",
    image(craftCubin({ extra: [{ name: ".nv.info", bytes: Buffer.alloc(0) }] })),
  ],
  ["own", "a kernel whose code lies elsewhere", "KL_CUBIN_ENTRY", kernel({ section: ".text.other" })],
  ["own", "a kernel that does not say how many registers it takes", "KL_CUBIN_ENTRY", kernel({ registers: undefined })],
  [
    "own",
    "a fatbin whose entry says it is larger than the file",
    "KL_FATBIN_ENTRY",
    image(craftFatbin([{ payload: good, size: 1 << 30 }])),
  ],
  [
    18,
    "a fatbin entry that unpacks to more than it says",
    "KL_FATBIN_ENTRY",
    image(craftFatbin([{ payload: Buffer.alloc(1 << 24), zstd: true, whole: 100 }])),
  ],
  [
    18,
    "a fatbin entry that says it unpacks to terabytes",
    "KL_FATBIN_ENTRY",
    image(craftFatbin([{ payload: good, zstd: true, whole: 2 ** 42 }])),
  ],
  ["own", "a shared object where an image is declared", "KL_CUBIN_MAGIC", image(libraries().good)],
  ["own", "device code hidden in a CPU variant", "KL_IMAGE_UNEXPECTED", { payload: carrying(good) }],
  [
    "own",
    "a fatbin hidden in a CPU variant",
    "KL_IMAGE_UNEXPECTED",
    { payload: carrying(craftFatbin([{ payload: good }])) },
  ],
  [
    "own",
    "an image of which a part is for the right GPU, and one not told",
    "KL_FATBIN_ENTRY",
    image(craftFatbin([{ payload: good, architecture: 80 }])),
  ],
];

export const deviceAttacks: readonly Attack[] = rows.map(([number, name, refused, how]) => ({
  number,
  name,
  area: "device",
  refused: typeof refused === "string" ? inspected(refused) : refused,
  how: () => how,
}));
