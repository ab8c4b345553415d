import { isDigest } from "@kernlock/kernels/format";
import { type AuditHead, verifyAuditLog } from "@kernlock/loader";
import { Command } from "commander";
import { auditLogPath } from "../audit.ts";
import { command } from "../command.ts";
import { usage } from "../errors.ts";

interface Options {
  readonly file?: string;
  readonly head?: string;
}

export function auditLogCommand(): Command {
  const verify = command<Options>(
    "verify",
    "check that no line of the audit log was changed, removed or put in",
    (target) =>
      withFile(target).option("--head <count:digest>", "a head kept elsewhere that the log must still contain"),
    async ({ output, options }) => {
      const head = verifyAuditLog(fileOf(options), options.head === undefined ? undefined : parseHead(options.head));
      output.result({ ok: true, ...head }, () => `holds together: ${headText(head)}\n`);
      return 0;
    },
  );
  const head = command<Options>(
    "head",
    "print where the log stands, to be kept where nobody who can write the log can write",
    withFile,
    async ({ output, options }) => {
      const found = verifyAuditLog(fileOf(options));
      output.result(found, () => `${headText(found)}\n`);
      return 0;
    },
  );
  return new Command("audit-log").description("the chained log of every load").addCommand(verify).addCommand(head);
}

const withFile = (target: Command): Command => target.option("--file <file>", "the log (default: this user's)");
const fileOf = ({ file }: Options): string => file ?? auditLogPath();
const headText = ({ count, digest }: AuditHead): string => `${count}:${digest}`;

function parseHead(text: string): AuditHead {
  const [count, ...rest] = text.split(":");
  const digest = rest.join(":");
  if (!/^\d{1,15}$/.test(count ?? "") || !isDigest(digest))
    usage("--head takes what `kernlock audit-log head` prints: COUNT:sha256:HEX.");
  return { count: Number(count), digest };
}
