import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { createProgram, type Device, openDevice, openLibrary } from "@kernlock/engine/native";
import { loadNative } from "@kernlock/loader/native";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { probe, scaleStep } from "./probe.ts";

let device: Device;
beforeAll(() => {
  device = openDevice({ kind: "cpu", workers: 2 });
});
afterAll(() => device.close());

/** By which factor a library's residual op scales: tells one build of the probe from another. */
function factorOf(fd: number): number {
  const library = openLibrary(fd, device);
  const [x, stream] = [device.allocate(64), device.allocate(64)];
  new Float32Array(x.bytes.buffer).fill(1);
  createProgram(device, [scaleStep(library, x, stream)]).runSync();
  const factor = new Float32Array(stream.bytes.buffer)[0]!;
  library.close();
  return factor;
}

const opening = (fd: number) => () => openLibrary(fd, device);
const coded = (code: string) => expect.objectContaining({ code });

describe("a kernel library", () => {
  it("tells its op table", async () => {
    const fd = await probe();
    const library = openLibrary(fd, device);
    closeSync(fd);
    expect(library.ops[0]).toEqual({ name: "residual/probe", op: "residual", argsSize: 48 });
    library.close();
    const [x, stream] = [device.allocate(64), device.allocate(64)];
    expect(() => createProgram(device, [scaleStep(library, x, stream)])).toThrow(coded("KL_DEVICE_CLOSED"));
  });

  it("is the file behind its descriptor, also when the descriptor's number was used before", async () => {
    const first = await probe("PROBE_FACTOR=42");
    expect(factorOf(first)).toBe(42);
    closeSync(first);
    const second = await probe("PROBE_FACTOR=700");
    expect(second).toBe(first);
    expect(factorOf(second)).toBe(700);
    closeSync(second);
  });

  it("is the file behind its descriptor, even when somebody else closes the one that an open library holds", async () => {
    const first = await probe("PROBE_FACTOR=42");
    const path = readlinkSync(`/proc/self/fd/${first}`);
    const library = openLibrary(first, device);
    const held = readdirSync("/proc/self/fd").find((fd) => fd !== String(first) && pathOf(fd) === path);
    closeSync(Number(held));
    closeSync(first);
    const seconds = await Promise.all([0, 1, 2, 3].map(() => probe("PROBE_FACTOR=700")));
    expect(seconds.map(String)).toContain(held);
    for (const fd of seconds) expect(factorOf(fd)).toBe(700);
    for (const fd of seconds) closeSync(fd);
    // The library's own close would now close a number that is not its own any more: leave it open.
    expect(library.ops.length).toBe(5);
  });

  it("runs from sealed memory files, one after another under the same number", async () => {
    const native = await loadNative();
    const sealed = async (factor: number) => {
      const source = await probe(`PROBE_FACTOR=${factor}`);
      const fd = native.createSealable("kernlock:probe");
      writeSync(fd, readFileSync(source));
      closeSync(source);
      native.seal(fd);
      return fd;
    };
    const first = await sealed(3);
    const library = openLibrary(first, device);
    expect(readFileSync("/proc/self/maps", "utf8")).toContain("/memfd:kernlock:probe (deleted)");
    closeSync(first);
    for (const factor of [5, 7, 11]) {
      const fd = await sealed(factor);
      expect(factorOf(fd)).toBe(factor);
      closeSync(fd);
    }
    library.close();
    expect(readFileSync("/proc/self/maps", "utf8")).not.toContain("/memfd:kernlock:probe");
  });

  it("may be open more than once", async () => {
    const fd = await probe();
    const [a, b] = [openLibrary(fd, device), openLibrary(fd, device)];
    a.close();
    expect(factorOf(fd)).toBe(1);
    b.close();
    closeSync(fd);
  });
});

describe("a library is refused", () => {
  it("when the descriptor is closed or holds no ELF file", async () => {
    expect(opening(9999)).toThrow(coded("KL_LOAD_OPEN"));
    expect(opening(openSync(import.meta.filename, "r"))).toThrow(coded("KL_LOAD_OPEN"));
  });
  it("without kl_get_api", async () =>
    expect(opening(await probe("PROBE_NO_SYMBOL"))).toThrow(coded("KL_LOAD_SYMBOL")));
  it("of another ABI", async () => expect(opening(await probe("PROBE_ABI=1"))).toThrow(coded("KL_LOAD_ABI")));
  it("with another table", async () =>
    expect(opening(await probe("PROBE_TABLE_SIZE=64"))).toThrow(coded("KL_LOAD_ABI")));
  it("with other arguments", async () =>
    expect(opening(await probe("PROBE_ARGS_SIZE=8"))).toThrow(coded("KL_LOAD_ABI")));
  it("that does not open, with its own words", async () => {
    expect(opening(await probe("PROBE_REFUSE"))).toThrow(
      expect.objectContaining({
        code: "KL_LOAD_INSTANCE",
        message: expect.stringContaining("this probe opens nowhere"),
      }),
    );
  });
  it("and leaves no descriptor open", async () => {
    const fd = await probe("PROBE_ABI=1");
    const before = readdirSync("/proc/self/fd").length;
    expect(opening(fd)).toThrow();
    expect(readdirSync("/proc/self/fd").length).toBe(before);
    expect(fstatSync(fd).size).toBeGreaterThan(0);
  });
});

function pathOf(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}
