import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import {
  cpuFacts,
  createProgram,
  type Device,
  type Library,
  openDevice,
  openLibrary,
  run,
} from "@kernlock/engine/native";
import { fieldOffset } from "@kernlock/kernels/abi";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { countingStep, failingStep, nestingStep, probe, scaleStep, slowStep } from "./probe.ts";

let device: Device;
let library: Library;
beforeAll(async () => {
  device = openDevice({ kind: "cpu", workers: 3 });
  library = openLibrary(await probe("PROBE_FACTOR=2"), device);
});
afterAll(() => device.close());

const floats = (values: number[]) => {
  const memory = device.allocate(values.length * 4);
  new Float32Array(memory.bytes.buffer).set(values);
  return memory;
};
const read = (memory: { bytes: Uint8Array }) => Array.from(new Float32Array(memory.bytes.buffer));
const coded = (code: string) => expect.objectContaining({ code });

describe("a program", () => {
  it("runs its launches in order, off the JavaScript thread", async () => {
    const [x, y] = [floats([1, 2, 3]), floats([0, 0, 1])];
    const program = createProgram(device, [scaleStep(library, x, y), scaleStep(library, y, x)]);
    await run(program);
    expect(read(y)).toEqual([2, 4, 7]);
    expect(read(x)).toEqual([5, 10, 17]);
  });

  it("leaves the JavaScript thread free while it runs; runs queue up", async () => {
    const counter = device.allocate(1);
    const program = createProgram(device, [slowStep(library, 300_000, counter)]);
    const start = performance.now();
    const runs = [program.run(), program.run(), program.run()];
    expect(performance.now() - start).toBeLessThan(250);
    expect(() => program.patch(0, 8, new Uint8Array(8))).toThrow(coded("KL_DEVICE_BUSY"));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 50);
    await Promise.all(runs);
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(3);
    expect(performance.now() - start).toBeGreaterThanOrEqual(900);
    expect(counter.bytes[0]).toBe(3);
  });

  it("keeps its own copy of the arguments, which can be patched", async () => {
    const [x, y, z] = [floats([1, 1]), floats([0, 0]), floats([0, 0])];
    const step = scaleStep(library, x, y);
    const program = createProgram(device, [step]);
    step.args.fill(0xff);
    program.runSync();
    const address = new Uint8Array(new BigUint64Array([z.address]).buffer);
    program.patch(0, fieldOffset("residual", "stream"), address);
    await program.run();
    expect([read(y), read(z)]).toEqual([
      [2, 2],
      [2, 2],
    ]);
    expect(() => program.patch(0, 0, address)).toThrow(coded("KL_PROGRAM_INVALID"));
    expect(() => program.patch(0, 44, address)).toThrow(coded("KL_PROGRAM_INVALID"));
  });

  it("is refused when its steps do not fit the library", () => {
    const step = scaleStep(library, floats([1]), floats([1]));
    expect(() => createProgram(device, [{ ...step, index: 17 }])).toThrow(coded("KL_PROGRAM_INVALID"));
    expect(() => createProgram(device, [{ ...step, index: 1 }])).toThrow(coded("KL_PROGRAM_INVALID"));
    expect(() => createProgram(device, [{ ...step, args: step.args.subarray(1) }])).toThrow(
      coded("KL_PROGRAM_INVALID"),
    );
  });
});

describe("a failing op", () => {
  it("ends the program with its step, name, status and own words", async () => {
    const [x, y] = [floats([1]), floats([0])];
    const steps = [scaleStep(library, x, y), failingStep(library, x), scaleStep(library, x, y)];
    const failure = {
      code: "KL_OP_FAILED",
      message: "Step 1 (embed/probe) failed with INVALID: token 7 is outside the vocabulary",
      details: { step: 1, op: "embed/probe", status: "INVALID", text: "token 7 is outside the vocabulary" },
    };
    const program = createProgram(device, steps);
    await expect(program.run()).rejects.toMatchObject(failure);
    expect(() => program.runSync()).toThrow(expect.objectContaining({ code: "KL_OP_FAILED" }));
    expect(read(y)).toEqual([4]);
    // The words of one failure are not those of the next.
    await expect(createProgram(device, [nestingStep(library, x)]).run()).rejects.toMatchObject({
      message: expect.stringContaining("parallel_for from inside parallel_for"),
    });
  });
});

describe("parallel_for", () => {
  it("runs every index once, on workers that exist", async () => {
    const counts = device.allocate(2 * (device.workers + 1));
    const program = createProgram(device, [
      countingStep(library, 1, 3, counts),
      countingStep(library, 5000, 3, counts),
    ]);
    for (let i = 0; i < 10; i++) await program.run();
    const numbers = Array.from(new Uint16Array(counts.bytes.buffer));
    expect(numbers.reduce((a, b) => a + b)).toBe(50_010);
    expect(numbers[3]).toBe(0);
  });

  it("stays right over many short loops, with sleeping and with busy helpers", async () => {
    const [x, y] = [floats(new Array(97).fill(1)), floats(new Array(97).fill(0))];
    const program = createProgram(device, new Array(500).fill(scaleStep(library, x, y)));
    for (let i = 0; i < 40; i++) {
      await program.run();
      if (i % 8 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect(read(y)).toEqual(new Array(97).fill(40_000));
  });
});

describe("memory", () => {
  it("is zeroed, aligned, and viewed without a copy", () => {
    const memory = device.allocate(1 << 20);
    expect(memory.address % 64n).toBe(0n);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    memory.view(1000, 4).set([1, 2, 3, 255]);
    expect(device.indexOfByte(memory.address, memory.size, 255)).toBe(1003);
    expect(device.indexOfByte(memory.address, 1003, 255)).toBe(-1);
    expect(() => memory.view(memory.size, 1)).toThrow(coded("KL_MEMORY_RANGE"));
    const view = memory.bytes;
    memory.free();
    memory.free();
    expect(view.length).toBe(0);
    expect(() => memory.view()).toThrow(coded("KL_DEVICE_CLOSED"));
  });

  it("may be larger than four gigabytes, and is refused when it is absurd", () => {
    const memory = device.allocate(6 * 2 ** 30);
    memory.view(5 * 2 ** 30, 1)[0] = 7;
    expect(memory.view(5 * 2 ** 30 - 1, 3)).toEqual(new Uint8Array([0, 7, 0]));
    memory.free();
    expect(() => device.allocate(2 ** 52)).toThrow(coded("KL_MEMORY_ALLOCATE"));
    expect(() => device.allocate(-1)).toThrow(coded("KL_MEMORY_ALLOCATE"));
  });
});

describe("a mapped file", () => {
  it("is read in place, from any offset, and never past its end", () => {
    const file = openSync(import.meta.filename, "r");
    const content = readFileSync(import.meta.filename);
    const memory = device.mapFile(file, 4099, content.length - 4099);
    expect(Buffer.compare(memory.bytes, content.subarray(4099))).toBe(0);
    expect(device.indexOfByte(memory.address, memory.size, 0)).toBe(-1);
    memory.free();
    const map = (offset: number, size: number) => () => device.mapFile(file, offset, size);
    for (const [offset, size] of [
      [4099, content.length - 4098],
      [content.length, 1],
      [0, 0],
      [-1, 4],
      [0, 2 ** 53],
    ] as const) {
      expect(map(offset, size), `${offset} ${size}`).toThrow(coded("KL_MEMORY_MAP"));
    }
    closeSync(file);
    expect(map(0, 1)).toThrow(coded("KL_MEMORY_MAP"));
  });
});

describe("this machine", () => {
  it("offers a level and cores", () => {
    const { level, cores } = cpuFacts();
    expect(level).toMatch(/^x86-64(-v[234])?$/);
    expect(cores).toBeGreaterThanOrEqual(1);
    expect(cores).toBeLessThanOrEqual(availableParallelism());
  });
});

describe("a process", () => {
  const example = (what: string) => {
    const file = join(import.meta.dirname, "exit-example.ts");
    return spawnSync(process.execPath, [file, what], { encoding: "utf8", timeout: 120_000 });
  };
  it("ends by itself once nothing runs", () => expect(example("idle")).toMatchObject({ status: 0, stdout: "idle\n" }));
  it("waits for a program it awaits", () => expect(example("await")).toMatchObject({ status: 0, stdout: "done\n" }));
  it("may exit while a program runs", () =>
    expect(example("exit")).toMatchObject({ status: 7, signal: null, stderr: "" }));
  it("may end a worker thread while a program runs", () => {
    expect(example("thread")).toMatchObject({ status: 0, signal: null, stdout: "thread ended\n", stderr: "" });
  });
});
