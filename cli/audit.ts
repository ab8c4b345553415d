import { appendFileSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import type { AuditLine } from "@kernlock/loader";

/** One JSON line for each kernel that was loaded or refused. */
export function auditLogPath(): string {
  const state = process.env.XDG_STATE_HOME ?? join(homedir(), ".local", "state");
  return join(state, "kernlock", "load-audit.jsonl");
}

/** A load that cannot be recorded does not happen. */
export function appendAudit(line: AuditLine): void {
  const path = auditLogPath();
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    appendFileSync(path, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  } catch (error) {
    fail(
      "KL_AUDIT_WRITE",
      `the load could not be recorded in ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`,
      {
        remedy: "Make the folder writable, or set XDG_STATE_HOME to one that is.",
        cause: error,
      },
    );
  }
}
