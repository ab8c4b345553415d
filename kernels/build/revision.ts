import { runProgram } from "./process.ts";
import { sharedInputs } from "./stage.ts";

/** A 40-digit commit, `<commit>-dirty`, or `unversioned`. */
export const revisionPattern = /^(?:[0-9a-f]{40}(?:[0-9a-f]{24})?(?:-dirty)?|unversioned)$/;

/**
 * What git says of a package's folder and of what builds share. `-dirty` where any file there differs from the commit,
 * is new, or is ignored (an ignored file could be compiled in unseen). `unversioned` where git knows nothing.
 */
export async function sourceRevision(packageFolder: string): Promise<string> {
  const git = (...args: string[]) =>
    runProgram("git", ["-c", "core.fsmonitor=false", "-C", packageFolder, ...args], {
      env: {
        PATH: process.env.PATH ?? "/usr/bin:/bin",
        LC_ALL: "C",
        HOME: process.env.HOME ?? "/",
        GIT_OPTIONAL_LOCKS: "0",
      },
      timeoutMs: 60_000,
    });
  const head = await git("rev-parse", "--verify", "HEAD");
  const commit = head.stdout.trim();
  if (head.status !== 0 || !revisionPattern.test(commit)) return "unversioned";
  const top = await git("rev-parse", "--show-toplevel");
  const shared = Object.values(sharedInputs).filter((path) => path.startsWith(`${top.stdout.trim()}/`));
  const status = await git(
    "status",
    "--porcelain",
    "--untracked-files=all",
    "--ignored=matching",
    "--",
    ".",
    ...shared,
  );
  return status.status === 0 && status.stdout === "" ? commit : `${commit}-dirty`;
}
