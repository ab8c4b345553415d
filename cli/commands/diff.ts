import { readFileSync } from "node:fs";
import { fail, KernlockError } from "@kernlock/kernels/format";
import { diffLocks, type Lock, parseLock } from "@kernlock/loader";
import type { Command } from "commander";
import { changesText } from "../changes.ts";
import { command } from "../command.ts";
import { exit } from "../errors.ts";

export function diffCommand(): Command {
  return command<object>(
    "diff <old> <new>",
    "what changes from one lock to another, in words; ends with 3 when trust changed",
    (target) => target,
    async ({ output, args: [old = "", young = ""] }) => {
      const after = read(young) ?? fail("KL_LOCK_FIELD", `${young} is empty.`, { remedy: "Name the new lock." });
      const changes = diffLocks(read(old), after);
      const trust = changes.some((change) => change.trust);
      output.result({ changes, trust_changed: trust }, () =>
        changes.length === 0 ? "nothing changed\n" : changesText(changes),
      );
      return trust ? exit.trustChanged : exit.done;
    },
  );
}

/** An empty file stands for no lock, so that `git show main:kernels.lock > old.lock || true` works for a first lock. */
function read(path: string): Lock | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    return fail("KL_CLI_FILE", `cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Name two lock files; an empty one stands for no lock.",
      cause: error,
    });
  }
  if (bytes.byteLength === 0) return undefined;
  try {
    return parseLock(bytes);
  } catch (error) {
    // Which of the two it is has to be said: both are called kernels.lock.
    if (!(error instanceof KernlockError)) throw error;
    return fail(error.code, `${path}: ${error.message}`, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      details: error.details,
      cause: error,
    });
  }
}
