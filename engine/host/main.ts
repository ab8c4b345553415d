/**
 * The engine host. It is given one channel, sealed kernels and open weight files as descriptors, and ends when its caller
 * closes the channel. Kernels and weights are never opened by path, and it starts no other process.
 */
import { once } from "node:events";
import { Socket } from "node:net";
import { type Begin, channelFd, frame, frameReader, handoverFd, type ToHost, wireError } from "../client/protocol.ts";
import { takeDescriptors } from "../handover/index.ts";
import { type HostEngine, type Send, startHostEngine } from "./engine.ts";
import { type Prepared, prepare, startStopwatch } from "./prepared.ts";
import { remoteTemplates } from "./templates.ts";

const channel = new Socket({ fd: channelFd, readable: true, writable: true });
const send: Send = (message, tail) => {
  let room = true;
  for (const part of frame(message, tail)) room = channel.write(part);
  return room ? Promise.resolve() : once(channel, "drain").then(() => {});
};

/** The engine itself failed: say why, and end once that has been said. */
function die(error: unknown): void {
  const [head, json] = frame({ type: "failed", id: null, error: wireError(error) });
  channel.write(head!);
  channel.write(json!, () => process.exit(1));
}

/** The message with this process' own descriptors in it. What they are of is not looked at before the host is confined. */
function withDescriptors<T extends Begin>(message: T): T {
  const fds = takeDescriptors(handoverFd, message.descriptors);
  const kernels = message.kernels.map((kernel) => ({
    ...kernel,
    files: kernel.files.map(({ path, fd }) => ({ path, fd: fds[fd]! })),
  }));
  return {
    ...message,
    kernels,
    ...("modelFds" in message ? { modelFds: message.modelFds.map((fd) => fds[fd]!) } : {}),
  };
}

let engine: HostEngine | null = null;
let prepared: Prepared | null = null;
const timeline = startStopwatch();
const templates = remoteTemplates(send);

function receive(message: ToHost): void {
  switch (message.type) {
    case "prepare":
      timeline.mark("waited for the device's number");
      prepared = prepare(message.device, timeline);
      void send({ type: "prepared" });
      return;
    case "start":
      timeline.mark("waited for the plan");
      startHostEngine(withDescriptors(message), send, templates, { prepared, timeline }).then((started) => {
        engine = started;
        const { driver, timeline } = started;
        void send({ type: "ready", driver, timeline });
      }, die);
      return;
    case "selftest":
      import("./selftest/index.ts")
        .then(({ runSelftest }) => runSelftest(withDescriptors(message), send))
        .then((driver) => void send({ type: "ready", driver, timeline: [] }), die);
      return;
    case "bench":
      import("./bench/index.ts")
        .then(({ runBench }) => runBench(withDescriptors(message), send))
        .then((driver) => void send({ type: "ready", driver, timeline: [] }), die);
      return;
    case "watch":
      if (engine !== null) void send({ type: "watched", ...engine.watch(message.what) });
      return;
    case "generate":
      engine?.generate(message.id, message.request);
      return;
    case "abort":
      engine?.abort(message.id);
      return;
    case "rendered":
    case "unrendered":
      templates.receive(message);
      return;
  }
}

// The caller made these messages: their form is what its types say.
channel.on(
  "data",
  frameReader((json) => receive(json as ToHost)),
);
channel.on("end", () => process.exit(0));
channel.on("error", () => process.exit(0));
timeline.mark("process and imports of the host");
process.on("uncaughtException", die);
process.on("unhandledRejection", die);
// Signals of a terminal go to the whole group; the caller decides what they mean.
process.on("SIGINT", () => {});
