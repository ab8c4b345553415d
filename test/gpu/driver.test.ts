/** The device runtime against a driver that does what a test wants: refusals, faults, memory, graphs. No GPU is needed. */
import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createProgram,
  createUpload,
  type Device,
  type Launch,
  type Library,
  openDevice,
  openImage,
  openLibrary,
  readMemory,
  writeMemory,
} from "@kernlock/engine/native";
import { encodeArgs } from "@kernlock/kernels/abi";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { compileFile } from "../ops/compile.ts";
import { buildFakeDriver, type FakeDriver } from "./fake/control.ts";

const outOfMemory = 2;
const source = join(import.meta.dirname, "fake", "kernels.cc");
const origin = { kernel: "kernlock/fake", version: "1.2.3", digest: `sha256:${"ab".repeat(32)}` };
const scratch = mkdtempSync(join(tmpdir(), "kernlock-fake-"));

let driver: FakeDriver;
let kernels: number;
const opened: Device[] = [];
const open = (): Device => {
  const device = openDevice({ kind: "cuda", ordinal: 0, driver: driver.path });
  opened.push(device);
  return device;
};
const coded = (code: string, message = "") =>
  expect.objectContaining({ code, message: expect.stringContaining(message) });

beforeAll(async () => {
  // What somebody's shell may say.
  Object.assign(process.env, { CUDA_DISABLE_PTX_JIT: "0", CUDA_FORCE_PTX_JIT: "1", CUDA_CACHE_DISABLE: "0" });
  Object.assign(process.env, { CUDA_FORCE_JIT: "1", CUDA_DISABLE_JIT: "0" });
  driver = buildFakeDriver({ gigabytes: 4 });
  kernels = await compileFile(source, []);
}, 300_000);
afterEach(() => {
  driver.reset();
  for (const device of opened.splice(0)) device.close();
});
afterAll(() => {
  driver.remove();
  rmSync(scratch, { recursive: true, force: true });
});

/** Steps that launch one kernel each. */
function launches(library: Library, count: number): Launch[] {
  const index = library.ops.findIndex(({ op }) => op === "residual");
  const args = encodeArgs("residual", {
    dtype: 1,
    stream_dtype: 0,
    tokens: 1,
    hidden: 64,
    row_seq: 64n,
    x: 64n,
    stream: 64n,
  });
  return Array.from({ length: count }, () => ({ library, index, args, pdl: true }));
}

describe("a driver that cannot be used is refused", () => {
  test("too old: it lacks a function", () => {
    const old = buildFakeDriver({ old: true });
    try {
      expect(() => openDevice({ kind: "cuda", ordinal: 0, driver: old.path })).toThrow(
        coded("KL_DEVICE_DRIVER", "too old: it has no cuLaunchKernelEx"),
      );
    } finally {
      old.remove();
    }
  });

  test("it does not start", () => {
    driver.failAt("cuInit", 1, 999);
    expect(open).toThrow(coded("KL_DEVICE_DRIVER", "does not start"));
  });

  test("no such file; no such device; a device that gives no context", () => {
    expect(() => openDevice({ kind: "cuda", ordinal: 0, driver: join(scratch, "libcuda.so.1") })).toThrow(
      coded("KL_DEVICE_DRIVER", "cannot be opened"),
    );
    expect(() => openDevice({ kind: "cuda", ordinal: 1, driver: driver.path })).toThrow(
      coded("KL_DEVICE_OPEN", "There is no device 1"),
    );
    driver.failAt("cuDevicePrimaryCtxRetain", 1, outOfMemory);
    expect(open).toThrow(coded("KL_DEVICE_OPEN", "cuDevicePrimaryCtxRetain gave CUDA_ERROR_OUT_OF_MEMORY"));
  });
});

describe("the driver's compiler of PTX", () => {
  test("stays off unless it was asked for, whatever the environment said, and so does its cache", async () => {
    const device = open();
    expect(process.env).toMatchObject({ CUDA_DISABLE_PTX_JIT: "1", CUDA_CACHE_DISABLE: "1" });
    for (const name of ["CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_JIT", "CUDA_FORCE_JIT"])
      expect(process.env[name]).toBeUndefined();
    const ptx = await compileFile(source, ["-DFAKE_PTX"]);
    expect(() => openLibrary(ptx, device, origin)).toThrow(
      coded("KL_LOAD_INSTANCE", "cuModuleLoadData gave CUDA_ERROR_JIT_COMPILATION_DISABLED"),
    );
  });

  test("is not turned on later: a process has it or has it not", () => {
    open();
    expect(() => openDevice({ kind: "cuda", ordinal: 0, driver: driver.path, compilePtx: true })).toThrow(
      coded("KL_DEVICE_DRIVER", "with its PTX compiler off already"),
    );
  });
});

describe("memory", () => {
  test("is counted, comes out of the reservation as long as it lasts, and is given back", () => {
    const device = open();
    expect(device.gpu).toMatchObject({ name: "Fake H100", capability: 90, multiprocessors: 132, cuda: "13.0" });
    const free = device.memory().free;
    device.reserve(1 << 20);
    const inside = device.allocate(1000);
    expect(driver.get("allocations")).toBe(1);
    const outside = device.allocate(2 << 20);
    expect(driver.get("allocations")).toBe(2);
    // Rounded up to 256 bytes.
    expect(device.memory()).toMatchObject({ inUse: 1024 + (2 << 20), mostUsed: 3 << 20, free: free - (3 << 20) });
    outside.free();
    outside.free();
    inside.free();
    expect(driver.get("allocations")).toBe(1);
    expect(device.memory()).toMatchObject({ inUse: 1024, mostUsed: 3 << 20 });
    device.close();
    expect(driver.get("allocations")).toBe(0);
    expect(driver.get("used")).toBe(0);
  });

  test("that there is not is refused, and nothing is lost", () => {
    const device = open();
    expect(() => device.allocate(5 * 2 ** 30)).toThrow(coded("KL_MEMORY_ALLOCATE", "CUDA_ERROR_OUT_OF_MEMORY"));
    expect(() => device.reserve(5 * 2 ** 30)).toThrow(coded("KL_MEMORY_ALLOCATE", "CUDA_ERROR_OUT_OF_MEMORY"));
    driver.failAt("cuMemHostAlloc", driver.calls("cuMemHostAlloc") + 1, outOfMemory);
    expect(() => device.allocateHost(64)).toThrow(coded("KL_MEMORY_ALLOCATE", "CUDA_ERROR_OUT_OF_MEMORY"));
    const memory = device.allocate(64);
    writeMemory(device, memory, new Uint8Array(64).fill(7));
    expect(readMemory(device, memory, 3)).toEqual(new Uint8Array([7, 7, 7]));
    expect(() => memory.bytes).toThrow(coded("KL_MEMORY_RANGE"));
  });

  test("the yardstick takes its memory and gives it back", () => {
    const device = open();
    expect(device.timeCopy(1 << 20)).toBeGreaterThan(0);
    expect(driver.get("used")).toBe(0);
    expect(() => device.timeCopy(3 * 2 ** 30)).toThrow(coded("KL_MEMORY_ALLOCATE"));
    expect(driver.get("used")).toBe(0);
  });
});

describe("loading kernels", () => {
  test("a module that the driver refuses, a kernel that it does not have, text in place of machine code", async () => {
    const device = open();
    driver.failAt("cuModuleLoadData", 1, 209);
    expect(() => openLibrary(kernels, device, origin)).toThrow(coded("KL_LOAD_INSTANCE", "cuModuleLoadData gave"));
    const absent = await compileFile(source, ["-DFAKE_ABSENT"]);
    expect(() => openLibrary(absent, device, origin)).toThrow(coded("KL_LOAD_INSTANCE", 'no kernel "absent"'));
    const text = await compileFile(source, ["-DFAKE_TEXT"]);
    expect(() => openLibrary(text, device, origin)).toThrow(coded("KL_LOAD_INSTANCE", "is no GPU binary"));
  });

  test("device images: the same, and no kernel before it is asked for", () => {
    const device = open();
    const file = (bytes: number[]): number => {
      const path = join(scratch, `image-${bytes.join("")}`);
      writeFileSync(path, Uint8Array.from(bytes));
      return openSync(path, "r");
    };
    const image = openImage(file([0x7f, 0x45, 0x4c, 0x46, 2]), device, origin);
    expect(driver.calls("cuModuleGetFunction")).toBe(0);
    expect(image.kernel("rmsnorm", 0)).toBe(0);
    expect(image.kernel("rmsnorm", 0)).toBe(0);
    expect(image.kernel("rmsnorm", 65536)).toBe(1);
    expect(driver.calls("cuFuncSetAttribute")).toBe(1);
    expect(() => image.kernel("absent", 0)).toThrow(coded("KL_LOAD_SYMBOL", 'no kernel "absent"'));
    expect(() => openImage(file([0x2e, 0x76, 0x65, 0x72]), device, origin)).toThrow(
      coded("KL_LOAD_INSTANCE", "no GPU binary"),
    );
  });

  test("closing a library waits for what is at work, then unloads its module", async () => {
    const device = open();
    const before = driver.get("modules");
    const library = openLibrary(kernels, device, origin);
    expect(driver.get("modules")).toBe(before + 1);
    await createProgram(device, launches(library, 2)).run();
    const waits = driver.calls("cuStreamSynchronize");
    library.close();
    expect(driver.calls("cuStreamSynchronize")).toBe(waits + 1);
    expect(driver.get("modules")).toBe(before);
  });
});

describe("a program", () => {
  test("goes launch by launch at first, is recorded once, and replayed from then on", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const program = createProgram(device, launches(library, 5));
    const execs = driver.get("execs");
    await program.run();
    expect(driver.calls("cuLaunchKernelEx")).toBe(5);
    expect(driver.calls("cuStreamBeginCapture_v2")).toBe(0);
    // Waited for one by one, none may begin before its predecessor has ended.
    expect(driver.get("dependent")).toBe(0);
    await program.run();
    expect(driver.calls("cuStreamBeginCapture_v2")).toBe(1);
    expect(driver.calls("cuGraphLaunch")).toBe(1);
    // Of the recorded ones, all but the first.
    expect(driver.get("dependent")).toBe(4);
    for (let i = 0; i < 10; i++) await program.run();
    expect(driver.calls("cuLaunchKernelEx")).toBe(10);
    expect(driver.calls("cuGraphLaunch")).toBe(11);
    expect(driver.get("kernels")).toBe(5 * 12);
    // The graph itself is not kept, what was made of it is.
    expect([driver.get("graphs"), driver.get("execs")]).toEqual([0, execs + 1]);
  });

  test("copies are part of it, in order", async () => {
    const device = open();
    const [host, there, back] = [device.allocateHost(64), device.allocate(64), device.allocateHost(64)];
    const program = createProgram(device, [
      { to: there.address, from: host.address, bytes: 64, up: true },
      { to: back.address, from: there.address, bytes: 64, up: false },
    ]);
    for (let run = 1; run <= 4; run++) {
      host.bytes.fill(run);
      await program.run();
      expect(back.bytes.every((byte) => byte === run)).toBe(true);
    }
    expect(driver.calls("cuGraphLaunch")).toBe(3);
  });

  test("is put behind the one at work before that one has ended; results come in order", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const [a, b] = [createProgram(device, launches(library, 3)), createProgram(device, launches(library, 3))];
    for (const program of [a, b, a, b]) await program.run();
    const before = driver.calls("cuGraphLaunch");
    driver.set("hold", 1);
    const ended: string[] = [];
    const runs = [
      a.run().then(() => ended.push("a")),
      b.run().then(() => ended.push("b")),
      a.run().then(() => ended.push("a again")),
    ];
    while (driver.calls("cuGraphLaunch") < before + 3) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(ended).toEqual([]);
    driver.set("hold", 0);
    await Promise.all(runs);
    expect(ended).toEqual(["a", "b", "a again"]);
    expect(device.busy()).toBeGreaterThan(0);
  });

  test("that is new waits until what was begun has ended", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const known = createProgram(device, launches(library, 1));
    await known.run();
    await known.run();
    driver.set("hold", 1);
    const launched = driver.calls("cuLaunchKernelEx");
    const runs = [known.run(), createProgram(device, launches(library, 1)).run()];
    while (driver.calls("cuEventSynchronize") === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(driver.calls("cuLaunchKernelEx")).toBe(launched);
    driver.set("hold", 0);
    await Promise.all(runs);
    expect(driver.calls("cuLaunchKernelEx")).toBe(launched + 1);
  });

  test("is timed by the device's clock, as a graph", () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const events = driver.get("events");
    const times = createProgram(device, launches(library, 4)).time(6);
    expect(times).toHaveLength(6);
    expect(times.every((ms) => ms > 0)).toBe(true);
    // One more is not counted.
    expect(driver.calls("cuGraphLaunch")).toBe(7);
    expect(driver.get("events")).toBe(events);
  });
});

describe("faults", () => {
  test("a launch that the driver refuses names op, kernel and digest; the next program runs", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    driver.failAt("cuLaunchKernelEx", 2, 1);
    const program = createProgram(device, launches(library, 3));
    await expect(program.run()).rejects.toMatchObject({
      code: "KL_OP_FAILED",
      details: { step: 1, op: "residual/fake", ...origin, status: "DEVICE" },
    });
    await program.run();
    // The same while it is recorded: nothing is left behind, and it can be recorded later.
    driver.failAt("cuLaunchKernelEx", driver.calls("cuLaunchKernelEx") + 3, 1);
    await expect(program.run()).rejects.toMatchObject({ code: "KL_OP_FAILED", details: { step: 2 } });
    expect(driver.get("graphs")).toBe(0);
    await program.run();
    expect(driver.calls("cuGraphLaunch")).toBe(1);
  });

  test("a kernel that faults in a first run is named, and the device is of no use afterwards", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    driver.set("fault_kernel", 3);
    const program = createProgram(device, launches(library, 4));
    await expect(program.run()).rejects.toMatchObject({
      code: "KL_OP_FAILED",
      message: expect.stringContaining("CUDA_ERROR_ILLEGAL_ADDRESS"),
      details: { step: 2, op: "residual/fake", digest: origin.digest },
    });
    driver.set("lost", 0);
    await expect(program.run()).rejects.toMatchObject({ code: "KL_DEVICE_FAULT" });
    expect(() => program.time(1)).toThrow(coded("KL_DEVICE_FAULT"));
  });

  test("one that faults inside a graph is not named; carefully, it is", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const program = createProgram(device, launches(library, 4));
    await program.run();
    await program.run();
    driver.set("fault_kernel", 10);
    await expect(program.run()).rejects.toMatchObject({
      code: "KL_DEVICE_FAULT",
      remedy: expect.stringContaining("--careful"),
    });
    driver.reset();

    const careful = open();
    careful.careful(true);
    const again = createProgram(careful, launches(openLibrary(kernels, careful, origin), 4));
    await again.run();
    await again.run();
    expect(driver.calls("cuStreamBeginCapture_v2")).toBe(0);
    driver.set("fault_kernel", 10);
    await expect(again.run()).rejects.toMatchObject({
      code: "KL_OP_FAILED",
      details: { step: 1, op: "residual/fake" },
    });
  });

  test("what was put behind a program that faults is told so too", async () => {
    const device = open();
    const library = openLibrary(kernels, device, origin);
    const program = createProgram(device, launches(library, 2));
    await program.run();
    await program.run();
    driver.set("fault_kernel", 5);
    const outcomes = await Promise.allSettled([program.run(), program.run(), program.run()]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    for (const one of outcomes) expect(one).toMatchObject({ reason: { code: "KL_DEVICE_FAULT" } });
  });

  test.each(["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"])(
    "%s fails: told, and no graph is left",
    async (name) => {
      const device = open();
      const program = createProgram(device, launches(openLibrary(kernels, device, origin), 2));
      await program.run();
      const graphs = driver.get("graphs");
      driver.failAt(name, 1, 1);
      await expect(program.run()).rejects.toMatchObject({ code: "KL_DEVICE_FAULT" });
      // A capture that does not end leaves none to destroy.
      if (name !== "cuStreamEndCapture") expect(driver.get("graphs")).toBe(graphs);
    },
  );
});

describe("weights on their way to the device", () => {
  const content = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251);
  const path = join(scratch, "weights");
  writeFileSync(path, content);
  const options = { slotBytes: 1 << 16, slots: 3, readers: 2, partBytes: 5000, overlap: true };
  const source = (bytes = content.length, refuse = 256) => ({
    name: "w",
    fd: openSync(path, "r"),
    offset: 0,
    bytes,
    refuse,
  });

  test.each([true, false])("arrive whole, overlapped %s", async (overlap) => {
    const device = open();
    const memory = device.allocate(content.length);
    const upload = createUpload(device, { ...options, overlap });
    upload.keep(source(), memory.address);
    const seen: number[] = [];
    const times = await upload.run((done) => seen.push(done));
    expect(Math.min(times.files, times.device)).toBeGreaterThanOrEqual(0);
    expect(Buffer.compare(readMemory(device, memory), content)).toBe(0);
    expect(seen.at(-1)).toBe(content.length);
  });

  test("a copy that fails, a file that is too short, a byte that is refused", async () => {
    const device = open();
    const memory = device.allocate(2 * content.length);
    const run = (from: ReturnType<typeof source>): Promise<unknown> => {
      const upload = createUpload(device, options);
      upload.keep(from, memory.address);
      return upload.run(() => {});
    };
    driver.failAt("cuMemcpyHtoDAsync_v2", 2, 1);
    await expect(run(source())).rejects.toMatchObject({ code: "KL_DEVICE_FAULT" });
    await expect(run(source(content.length + 1))).rejects.toMatchObject({ code: "KL_MODEL_TRUNCATED" });
    await expect(run(source(content.length, 250))).rejects.toMatchObject({ byte: 250 });
    // Its ring is given back each time.
    expect(driver.get("allocations")).toBe(1);
  });
});
