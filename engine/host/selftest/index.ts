/** The engine host as a test bench: it confines itself as always, loads kernels, and tries every op of theirs. */
import type { Driver, ToHost } from "../../client/protocol.ts";
import { confineHost } from "../../confine/self.ts";
import { openPlanned, type Send } from "../engine.ts";
import { findOp, loadOps } from "../kernels.ts";
import { testOp } from "./run.ts";

/** Sends a `tested` for every case. @throws KL_LOAD_*, KL_DEVICE_* */
export async function runSelftest(
  { device: planned, workers, kernels, compilePtx, seed }: Extract<ToHost, { type: "selftest" }>,
  send: Send,
): Promise<Driver | null> {
  const { device, driver } = openPlanned({ device: planned, workers }, compilePtx);
  if (confineHost(process.argv.slice(2))) void send({ type: "confined" });
  // Arrays of many sizes come and go: nothing is gained by replaying what runs once.
  device.careful(true);
  const ops = loadOps(kernels, device);
  for (const { name, variant } of kernels) {
    for (const facts of variant.ops) {
      const op = `${facts.name}/${facts.path}`;
      const loaded = findOp(ops, { kernel: name, variant: variant.variant, op });
      for (const { label, ok, error, text } of testOp(device, loaded, facts, seed)) {
        const finite = Number.isFinite(error) ? error : null;
        await send({ type: "tested", kernel: name, op, label, ok, error: finite, text });
      }
    }
  }
  return driver;
}
