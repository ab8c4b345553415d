import { Command } from "commander";
import { auditCommand, backupCommand, fsckCommand, gcCommand, restoreCommand, scrubCommand } from "./registry/care.ts";
import { namespaceCommand } from "./registry/namespace.ts";
import { accountCommand, memberCommand } from "./registry/people.ts";
import { serveCommand } from "./registry/serve.ts";
import { publisherCommand, tokenCommand } from "./registry/token.ts";
import { versionCommand } from "./registry/version.ts";

export function registryCommand(): Command {
  const root = new Command("registry").description("run and administer a registry");
  const parts = [
    serveCommand(),
    namespaceCommand(),
    tokenCommand(),
    publisherCommand(),
    memberCommand(),
    accountCommand(),
    versionCommand(),
    auditCommand(),
    backupCommand(),
    restoreCommand(),
    fsckCommand(),
    gcCommand(),
    scrubCommand(),
  ];
  for (const part of parts) root.addCommand(part);
  return root;
}
