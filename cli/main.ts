import { readFileSync } from "node:fs";
import { KernlockError } from "@kernlock/kernels/format";
import { Command, CommanderError } from "commander";
import { buildCommand } from "./commands/build.ts";
import { chatCommand } from "./commands/chat.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { fetchCommand } from "./commands/fetch.ts";
import { generateCommand } from "./commands/generate.ts";
import { infoCommand } from "./commands/info.ts";
import { inspectCommand } from "./commands/inspect.ts";
import { lockCommand } from "./commands/lock.ts";
import { planCommand } from "./commands/plan.ts";
import { publishCommand } from "./commands/publish.ts";
import { registryCommand } from "./commands/registry.ts";
import { searchCommand } from "./commands/search.ts";
import { verifyCommand } from "./commands/verify.ts";
import { exit } from "./errors.ts";
import { createOutput } from "./output.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("kernlock")
  .description("Load only the compute kernels that are pinned, signed and allowed, and run gpt-oss models with them.")
  .version(version)
  .showHelpAfterError(false);

for (const make of [
  registryCommand,
  buildCommand,
  publishCommand,
  searchCommand,
  infoCommand,
  lockCommand,
  fetchCommand,
  verifyCommand,
  doctorCommand,
  inspectCommand,
  planCommand,
  generateCommand,
  chatCommand,
])
  program.addCommand(make());

for (const command of allCommands(program)) command.exitOverride().configureOutput({ outputError: () => {} });

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  if (error.exitCode !== 0) {
    // Which command it was is not known here; what the user asked for is.
    const output = createOutput(process.argv.includes("--json"), process.stdout, process.stderr);
    const help = error.code === "commander.help";
    if (!help)
      output.error(
        new KernlockError("KL_CLI_USAGE", error.message.replace(/^error: /, ""), { remedy: "See `kernlock --help`." }),
      );
    process.exitCode = exit.usage;
  }
}

function* allCommands(root: Command): Generator<Command> {
  yield root;
  for (const child of root.commands) yield* allCommands(child);
}
