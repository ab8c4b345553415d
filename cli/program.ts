import { readFileSync } from "node:fs";
import { KernlockError } from "@kernlock/kernels/format";
import { Command, CommanderError } from "commander";
import { exit } from "./errors.ts";
import { createOutput } from "./output.ts";

/** Each command's module is read when it is asked for: `plan` must not wait for a web server, nor need its database. */
const commands = {
  registry: async () => (await import("./commands/registry.ts")).registryCommand(),
  login: async () => (await import("./commands/login.ts")).loginCommand(),
  logout: async () => (await import("./commands/login.ts")).logoutCommand(),
  build: async () => (await import("./commands/build.ts")).buildCommand(),
  publish: async () => (await import("./commands/publish.ts")).publishCommand(),
  search: async () => (await import("./commands/search.ts")).searchCommand(),
  info: async () => (await import("./commands/info.ts")).infoCommand(),
  add: async () => (await import("./commands/add.ts")).addCommand(),
  remove: async () => (await import("./commands/remove.ts")).removeCommand(),
  lock: async () => (await import("./commands/lock.ts")).lockCommand(),
  outdated: async () => (await import("./commands/outdated.ts")).outdatedCommand(),
  diff: async () => (await import("./commands/diff.ts")).diffCommand(),
  fetch: async () => (await import("./commands/fetch.ts")).fetchCommand(),
  verify: async () => (await import("./commands/verify.ts")).verifyCommand(),
  explain: async () => (await import("./commands/explain.ts")).explainCommand(),
  attest: async () => (await import("./commands/attest.ts")).attestCommand(),
  policy: async () => (await import("./commands/policy.ts")).policyCommand(),
  "verify-bundle": async () => (await import("./commands/verify-bundle.ts")).verifyBundleCommand(),
  doctor: async () => (await import("./commands/doctor.ts")).doctorCommand(),
  inspect: async () => (await import("./commands/inspect.ts")).inspectCommand(),
  plan: async () => (await import("./commands/plan.ts")).planCommand(),
  "audit-log": async () => (await import("./commands/audit-log.ts")).auditLogCommand(),
  generate: async () => (await import("./commands/generate.ts")).generateCommand(),
  bundle: async () => (await import("./commands/bundle.ts")).bundleCommand(),
  selftest: async () => (await import("./commands/selftest.ts")).selftestCommand(),
  bench: async () => (await import("./commands/bench.ts")).benchCommand(),
  "make-model": async () => (await import("./commands/make-model.ts")).makeModelCommand(),
  chat: async () => (await import("./commands/chat.ts")).chatCommand(),
} as const;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("kernlock")
  .description("Load only the compute kernels that are pinned, signed and allowed, and run gpt-oss models with them.")
  .version(version)
  .showHelpAfterError(false);

const wanted = process.argv[2] ?? "";
/** Usage in general needs all of them, the version none. */
const names: readonly string[] = Object.hasOwn(commands, wanted)
  ? [wanted]
  : wanted === "--version"
    ? []
    : Object.keys(commands);
for (const name of names) {
  try {
    program.addCommand(await commands[name as keyof typeof commands]());
  } catch (error) {
    // A portable folder has no registry in it.
    const missing = (error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND" && name === "registry";
    if (!missing) throw error;
  }
}

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
