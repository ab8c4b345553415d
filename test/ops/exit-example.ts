/** Ends in the way that its argument says; program.test.ts starts it. */
import { isMainThread, Worker } from "node:worker_threads";
import { createProgram, openDevice, openLibrary } from "@kernlock/engine/native";
import { probe, slowStep } from "./probe.ts";

const what = process.argv[2] ?? "thread";
if (what === "thread" && isMainThread) {
  const worker = new Worker(import.meta.filename);
  setTimeout(() => worker.terminate(), 600);
  worker.once("exit", () => console.log("thread ended"));
} else {
  const device = openDevice({ kind: "cpu", workers: 3 });
  const library = openLibrary(await probe(), device);
  const counter = device.allocate(1);
  const program = createProgram(device, new Array(100).fill(slowStep(library, 20_000, counter)));
  switch (what) {
    case "idle":
      console.log("idle");
      break;
    case "await":
      await createProgram(device, [slowStep(library, 50_000, counter)]).run();
      console.log("done");
      break;
    case "exit":
      program.run();
      setTimeout(() => process.exit(7), 50);
      break;
    case "thread":
      program.run();
      break;
  }
}
