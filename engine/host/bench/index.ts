/** The engine host as a stopwatch: it confines itself as always, loads kernels, and times every op of theirs. */

import type { Layout } from "@kernlock/kernels/abi";
import { KernlockError, type VariantOp } from "@kernlock/kernels/format";
import { modeTypes } from "@kernlock/policies/compatibility";
import type { Driver, ToHost } from "../../client/protocol.ts";
import { confineHost } from "../../confine/self.ts";
import { openPlanned, type Send } from "../engine.ts";
import { findOp, loadOps } from "../kernels.ts";
import { type BenchCase, benchCases } from "./shapes.ts";
import { budgetOf, timeOp } from "./time.ts";

/** Sends `ceiling` once, then a `timed` for every launch of every op. @throws KL_LOAD_*, KL_DEVICE_*, KL_MEMORY_ALLOCATE */
export async function runBench(message: Extract<ToHost, { type: "bench" }>, send: Send): Promise<Driver | null> {
  const { device: planned, workers, kernels, shape, mode, tokens, context, only, quick, seed } = message;
  const { device, driver } = openPlanned({ device: planned, workers }, message.compilePtx);
  if (confineHost(process.argv.slice(2))) void send({ type: "confined" });
  const ops = loadOps(kernels, device);
  const large = device.kind === "cuda" ? 2 ** 30 : quick ? 64 << 20 : 256 << 20;
  void send({ type: "ceiling", bytesPerSecond: device.timeCopy(large) });
  const budget = budgetOf(device, quick);
  for (const { name, variant } of kernels) {
    for (const facts of variant.ops) {
      if (only !== null && !only.includes(facts.name)) continue;
      const op = `${facts.name}/${facts.path}`;
      const loaded = findOp(ops, { kernel: name, variant: variant.variant, op });
      const made: readonly Layout[] = facts.layouts ?? ["bf16.rows"];
      for (const layout of made) {
        const told = {
          kernel: name,
          variant: variant.variant,
          op,
          layout: facts.layouts === undefined ? null : layout,
        };
        const seen = new Set<string>();
        for (const count of tokens) {
          for (const one of benchCases(facts.name, { shape, tokens: count, context, mode, layout })) {
            // What prepares weights does not depend on the rows.
            const key = `${one.label} ${one.tokens}`;
            if (seen.has(key)) continue;
            seen.add(key);
            const where = { type: "timed" as const, ...told, label: one.label, tokens: one.tokens };
            const why = unfit(facts, one, mode);
            if (why !== null) {
              await send({ ...where, time: null, text: why });
              continue;
            }
            try {
              const time = timeOp(device, loaded, facts, one, { mode, layout, budget, seed });
              await send({ ...where, time, text: "" });
            } catch (error) {
              if (!(error instanceof KernlockError)) throw error;
              await send({ ...where, time: null, text: `[${error.code}] ${error.message}` });
            }
          }
        }
      }
    }
  }
  return driver;
}

/** Why an op does not run such a launch, by its own descriptor; null where it does. */
function unfit(facts: VariantOp, { sizes }: BenchCase, mode: keyof typeof modeTypes): string | null {
  for (const [dim, { min = 0, max = Number.POSITIVE_INFINITY, multipleOf = 1 }] of Object.entries(facts.limits)) {
    const size = sizes[dim];
    if (size === undefined) continue;
    if (size < min || size > max) return `${dim} is ${size}; it takes ${min} to ${max}`;
    if (size % multipleOf !== 0) return `${dim} is ${size}, no multiple of ${multipleOf}`;
  }
  for (const kind of ["activation", "stream", "kv"] as const) {
    const takes = facts.dtypes[kind];
    if (takes !== undefined && !takes.includes(modeTypes[mode][kind]))
      return `it takes no ${kind} in ${modeTypes[mode][kind]}`;
  }
  return null;
}
