/**
 * The engine host. It is given one channel, sealed kernels and open weight files as descriptors, and ends when its caller
 * closes the channel. Kernels and weights are never opened by path, and it starts no other process.
 */
import { once } from "node:events";
import { Socket } from "node:net";
import { channelFd, frame, frameReader, type ToHost, wireError } from "../client/protocol.ts";
import { type HostEngine, type Send, startHostEngine } from "./engine.ts";
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

let engine: HostEngine | null = null;
const templates = remoteTemplates(send);

function receive(message: ToHost): void {
  switch (message.type) {
    case "start":
      startHostEngine(message, send, templates).then((started) => {
        engine = started;
        const { driver, timeline } = started;
        void send({ type: "ready", driver, timeline });
      }, die);
      return;
    case "selftest":
      import("./selftest/index.ts")
        .then(({ runSelftest }) => runSelftest(message, send))
        .then((driver) => void send({ type: "ready", driver, timeline: [] }), die);
      return;
    case "bench":
      import("./bench/index.ts")
        .then(({ runBench }) => runBench(message, send))
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
process.on("uncaughtException", die);
process.on("unhandledRejection", die);
// Signals of a terminal go to the whole group; the caller decides what they mean.
process.on("SIGINT", () => {});
