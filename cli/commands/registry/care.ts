/** What keeps a registry's data sound. All of it may run beside the server. */
import { type Maintenance, openMaintenance, restore } from "@kernlock/registry-server";
import type { Command } from "commander";
import { command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { bytesText, table } from "../../output.ts";
import { type DataFlags, dataOptions, seconds, wholeNumber, withAdmin, withData } from "./data.ts";

export async function withMaintenance<T>(flags: DataFlags, use: (maintenance: Maintenance) => Promise<T>): Promise<T> {
  const maintenance = await openMaintenance(dataOptions(flags));
  try {
    return await use(maintenance);
  } finally {
    await maintenance.close();
  }
}

export function gcCommand(): Command {
  return command<DataFlags & { dryRun?: boolean; grace: string }>(
    "gc",
    "remove what nobody published or names",
    (target) =>
      withData(target)
        .option("--dry-run", "say what would go, and remove nothing")
        .option("--grace <time>", "leave alone what was touched this recently", "24h"),
    async ({ output, options }) => {
      const dryRun = options.dryRun === true;
      const found = await withMaintenance(options, (it) =>
        it.gc({ dryRun, graceSeconds: seconds("--grace", options.grace) }),
      );
      output.result(
        { dry_run: dryRun, manifests: found.manifests, links: found.links, blobs: found.blobs, bytes: found.bytes },
        () =>
          `${dryRun ? "would remove" : "removed"} ${found.manifests} manifests and ${found.blobs.length} blobs (${bytesText(found.bytes)})\n`,
      );
      return 0;
    },
  );
}

export function scrubCommand(): Command {
  return command<DataFlags>(
    "scrub",
    "read every blob and compare it with its digest; damaged ones are set aside",
    withData,
    async ({ output, options }) => {
      const found = await withMaintenance(options, (it) => it.scrub((checked) => output.progress(`${checked} blobs`)));
      output.result(
        found,
        () =>
          `${found.checked} blobs (${bytesText(found.bytes)}), ${found.damaged.length} damaged\n${table(
            found.damaged.map(({ digest, what, needed }) => [digest, what, needed.join(" ")]),
          )}`,
      );
      return found.damaged.length === 0 ? 0 : 1;
    },
  );
}

export function fsckCommand(): Command {
  return command<DataFlags & { repair?: boolean }>(
    "fsck",
    "compare the database with the stored files, and with itself",
    (target) => withData(target).option("--repair", "remove files that nothing names"),
    async ({ output, options }) => {
      const found = await withMaintenance(options, (it) => it.fsck({ repair: options.repair === true }));
      output.result(found, () => {
        const lines = [
          ...found.blobs.map(({ digest, what, needed }) => [what, digest, needed.join(" ")]),
          ...Object.entries(found.rows).flatMap(([what, rows]) => rows.map((row) => [what, JSON.stringify(row)])),
          ...found.orphans.map((digest) => [options.repair === true ? "removed" : "orphan", digest]),
          ...(found.audit.broken === null ? [] : [["audit", `broken at entry ${found.audit.broken}`]]),
        ];
        return `${table(lines)}${found.sound ? "sound" : "not sound"}; audit head ${found.audit.seq} ${found.audit.hash}\n`;
      });
      return found.sound ? 0 : 1;
    },
  );
}

export function backupCommand(): Command {
  return command<DataFlags>(
    "backup <folder>",
    "copy a running registry into a folder, new or an older backup",
    withData,
    async ({ output, options, args }) => {
      const made = await withMaintenance(options, (it) => it.backUp(args[0] ?? ""));
      output.result(
        { created_at: made.created_at, blobs: made.blobs.length, audit_head: made.audit_head },
        () => `${made.blobs.length} blobs; audit head ${made.audit_head.seq} ${made.audit_head.hash}\n`,
      );
      return 0;
    },
  );
}

export function restoreCommand(): Command {
  return command<{ data: string }>(
    "restore <folder>",
    "make a data folder of a backup, comparing every byte",
    (target) => target.requiredOption("--data <folder>", "new folder for the registry's data"),
    async ({ output, options, args }) => {
      const made = await restore(args[0] ?? "", options.data);
      output.result(
        { created_at: made.created_at, blobs: made.blobs.length, audit_head: made.audit_head },
        () => `restored ${made.blobs.length} blobs as of ${made.created_at}\n`,
      );
      return 0;
    },
  );
}

interface AuditFlags {
  readonly after: string;
  readonly limit: string;
  readonly actor?: string;
  readonly action?: string;
  readonly subject?: string;
  readonly verify?: boolean;
  readonly head?: boolean;
}

export function auditCommand(): Command {
  return command<DataFlags & AuditFlags>(
    "audit",
    "print the audit log, or check its chain",
    (target) =>
      withData(target)
        .option("--after <seq>", "begin behind this entry", "0")
        .option("--limit <n>", "at most this many", "100")
        .option("--actor <text>", "only what was done by whose name begins so; newest first, like the next two")
        .option("--action <text>", "only actions that begin so, e.g. version.")
        .option("--subject <text>", "only what is about something that begins so, e.g. acme/norm")
        .option("--verify", "check every entry's hash; exit 1 where the chain is broken")
        .option("--head", "print only the number and hash of the newest entry"),
    async ({ output, options }) =>
      withAdmin(options, async (admin) => {
        if (options.verify === true) {
          const found = await admin.verifyAudit();
          output.result(found, () =>
            found.broken === null
              ? `sound; head ${found.head.seq} ${found.head.hash}\n`
              : `broken at entry ${found.broken}\n`,
          );
          return found.broken === null ? 0 : 1;
        }
        if (options.head === true) {
          const head = await admin.auditHead();
          output.result(head, () => `${head.seq} ${head.hash}\n`);
          return 0;
        }
        const limit = wholeNumber("--limit", options.limit, 100_000);
        const { actor = "", action = "", subject = "" } = options;
        const filtered = actor + action + subject !== "";
        if (filtered && options.after !== "0") usage("--after goes with none of --actor, --action and --subject.");
        const rows = filtered
          ? await admin.auditPage({ actor, action, subject }, 0, limit)
          : await admin.auditAfter(wholeNumber("--after", options.after), limit);
        output.result(
          rows.map((row) => ({ ...row, details: JSON.parse(row.details) as unknown })),
          () => table(rows.map((row) => [String(row.seq), row.at, row.actor, row.action, row.subject, row.details])),
        );
        return 0;
      }),
  );
}
