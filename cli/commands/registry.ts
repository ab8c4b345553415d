import { Command } from "commander";
import { auditCommand, backupCommand, fsckCommand, gcCommand, restoreCommand, scrubCommand } from "./registry/care.ts";
import { healthCommand } from "./registry/health.ts";
import { mirrorCommand } from "./registry/mirror.ts";
import { namespaceCommand } from "./registry/namespace.ts";
import { advisoryCommand, revocationCommand, servedFeedCommand } from "./registry/notices.ts";
import { accountCommand, memberCommand } from "./registry/people.ts";
import { reviewCommand } from "./registry/review.ts";
import { serveCommand } from "./registry/serve.ts";
import { publisherCommand, tokenCommand } from "./registry/token.ts";
import { versionCommand } from "./registry/version.ts";

export function registryCommand(): Command {
  const root = new Command("registry").description("run and administer a registry");
  const parts = [
    serveCommand(),
    namespaceCommand(),
    mirrorCommand(),
    tokenCommand(),
    publisherCommand(),
    memberCommand(),
    accountCommand(),
    versionCommand(),
    reviewCommand(),
    advisoryCommand(),
    revocationCommand(),
    servedFeedCommand(),
    healthCommand(),
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
