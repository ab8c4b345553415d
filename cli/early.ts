/**
 * Commands that run a model start the engine's host before their own modules are read: its start and the opening of a GPU
 * take longer than all that this process has to do until it knows the plan.
 */
import { type EarlyHost, readMachineFacts, startEarlyHost, type Timeline } from "@kernlock/engine/early";
import type { MachineFacts, PlanRequest } from "@kernlock/policies/compatibility";

type Device = PlanRequest["device"];

/** A host, and what this machine is, which the host has been told. */
export interface Early {
  readonly host: EarlyHost;
  readonly machine: MachineFacts;
  /** What that took, in milliseconds since this process began. */
  readonly timeline: Timeline;
}

let begun: (Early & { readonly device: Device }) | undefined;

function begin(device: Device): Early {
  const from = performance.now();
  const host = startEarlyHost(device);
  const between = performance.now();
  // Before the host opens anything: what a device has free is what others leave of it.
  let machine: MachineFacts;
  try {
    machine = readMachineFacts();
  } catch (error) {
    void host[Symbol.asyncDispose]();
    throw error;
  }
  host.prepare(machine);
  const timeline = [
    { name: "(beside: begin the host)", at: from, ms: between - from },
    { name: "(beside: look at the machine)", at: between, ms: performance.now() - between },
  ];
  return { host, machine, timeline };
}

/** `args`: as the user wrote them. A guess, and no more: whoever takes the host says what is really asked for. */
export function beginEarly(args: readonly string[]): void {
  if (args.includes("--help") || args.includes("-h")) return;
  const at = args.findIndex((arg) => arg === "--device" || arg.startsWith("--device="));
  const asked = (args[at]?.split("=")[1] ?? args[at + 1] ?? "auto") as Device;
  const device = at < 0 ? "auto" : asked;
  if (!/^(auto|cpu|cuda|cuda:\d{1,3})$/.test(device)) return;
  try {
    begun = { device, ...begin(device) };
  } catch {
    // Met again, and then told, by the command.
  }
}

/** The host that was begun, where it is for this device; otherwise one that begins now. The caller disposes of it. */
export async function takeEarly(device: Device): Promise<Early & AsyncDisposable> {
  if (begun?.device !== device) await endEarly();
  const early = begun ?? begin(device);
  begun = undefined;
  return { ...early, [Symbol.asyncDispose]: () => early.host[Symbol.asyncDispose]() };
}

/** For a command that never came to take it. */
export async function endEarly(): Promise<void> {
  await begun?.host[Symbol.asyncDispose]();
  begun = undefined;
}
