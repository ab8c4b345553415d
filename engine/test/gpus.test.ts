import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseCudaVersion, parseDevices, readOtherGpus } from "../client/gpus.ts";

test("what nvidia-smi says of devices, in the order of their numbers", () => {
  const text =
    "1, NVIDIA GeForce RTX 4090, 8.9, 24564, 24080, 580.159.04\n0, NVIDIA H100 80GB HBM3, 9.0, 81559, 81079, 580.159.04\n";
  expect(parseDevices(text)).toEqual([
    {
      name: "NVIDIA H100 80GB HBM3",
      capability: "9.0",
      architecture: "sm_90a",
      memory: 81559 * 2 ** 20,
      available: 81079 * 2 ** 20,
    },
    {
      name: "NVIDIA GeForce RTX 4090",
      capability: "8.9",
      architecture: "sm_89",
      memory: 24564 * 2 ** 20,
      available: 24080 * 2 ** 20,
    },
  ]);
});

test("a device that cannot say what it is, and text that is something else, give no device", () => {
  expect(parseDevices("0, [N/A], [N/A], [N/A], [N/A], 580.1\n")).toEqual([]);
  expect(parseDevices("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")).toEqual([]);
  expect(parseDevices("")).toEqual([]);
  const unknown = parseDevices("0, Some GPU, 8.0, [N/A], [N/A], 580.1");
  expect(unknown).toEqual([{ name: "Some GPU", capability: "8.0", architecture: "sm_80", memory: 0 }]);
});

test("the CUDA version, in both forms that it is printed in", () => {
  expect(parseCudaVersion("DRIVER version      : 580.159.04\nCUDA Version        : 13.0\n")).toBe("13.0");
  expect(parseCudaVersion("| NVIDIA-SMI 535.1   Driver Version: 535.1   CUDA Version: 12.2     |")).toBe("12.2");
  expect(parseCudaVersion("")).toBeNull();
});

test("GPUs of other makers are seen by their PCI class", () => {
  const root = mkdtempSync(join(tmpdir(), "kernlock-pci-"));
  const device = (name: string, vendor: string, kind: string, id: string): void => {
    mkdirSync(join(root, name));
    for (const [file, text] of Object.entries({ vendor, class: kind, device: id })) {
      writeFileSync(join(root, name, file), `${text}\n`);
    }
  };
  device("0000:03:00.0", "0x1002", "0x030000", "0x744c");
  device("0000:04:00.0", "0x1002", "0x040300", "0xab30");
  device("0000:05:00.0", "0x10de", "0x030200", "0x2330");
  expect(readOtherGpus(root)).toEqual(["AMD 0x744c"]);
  expect(readOtherGpus(join(root, "nothing"))).toEqual([]);
  rmSync(root, { recursive: true });
});
