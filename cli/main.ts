/** Main module of the command. Where a model will run, the engine's host is begun before anything else is read. */
const [command, part] = process.argv.slice(2);
const runsModel = command === "generate" || command === "chat" || (command === "bench" && part === "start");
const early = runsModel ? await import("./early.ts") : undefined;
early?.beginEarly(process.argv.slice(2));
try {
  await import("./program.ts");
} finally {
  await early?.endEarly();
}

export {};
