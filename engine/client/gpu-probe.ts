/** A process of its own: opens every device of the driver, prints what they are, and ends. */
import { addon } from "../native/addon.ts";
import { findDriver } from "../native/driver.ts";

const path = findDriver();
const devices: { name: string; capability: string; memory: number; available: number }[] = [];
let driver = "0.0";
for (let ordinal = 0; path !== null; ordinal++) {
  try {
    const gpu = addon().openCuda(path, ordinal, false);
    const capability = `${Math.floor(gpu.capability / 10)}.${gpu.capability % 10}`;
    driver = `${Math.floor(gpu.driver / 1000)}.${Math.floor((gpu.driver % 1000) / 10)}`;
    devices.push({ name: gpu.name, capability, memory: gpu.total, available: gpu.free });
  } catch {
    break;
  }
}
process.stdout.write(JSON.stringify({ driver, devices }), () => process.exit(0));
