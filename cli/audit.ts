import { homedir } from "node:os";
import { join } from "node:path";

/** Where the loads of this user are recorded. */
export function auditLogPath(): string {
  const state = process.env.XDG_STATE_HOME ?? join(homedir(), ".local", "state");
  return join(state, "kernlock", "audit.jsonl");
}
