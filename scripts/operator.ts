/** Runs commands where an operator's policy stands, without touching this machine's: in a mount namespace. */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { type Ran, root } from "./project.ts";

const works = (flags: string): boolean =>
  spawnSync("unshare", [flags, "sh", "-c", "mount --make-rprivate /"]).status === 0;

/** The flags with which `unshare` gives a mount namespace here; null where it gives none. */
export const mountNamespaces: string | null = ["-m", "-rm"].find(works) ?? null;

/** /etc becomes a copy in memory, so that a folder can be mounted in it; 99 says that this failed. */
const script = `
  mount --make-rprivate / && mount -t tmpfs -o mode=0755 tmpfs /mnt && mkdir /mnt/etc && cp -a /etc/. /mnt/etc/ 2>/dev/null
  rm -rf /mnt/etc/kernlock && mkdir -m 0755 /mnt/etc/kernlock && mount --bind /mnt/etc /etc && mount --bind "$1" /etc/kernlock || exit 99
  shift; exec "$@"`;

/** Runs `kernlock` where `folder` stands as /etc/kernlock. */
export function underOperator(
  folder: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): Promise<Ran> {
  if (mountNamespaces === null)
    throw new Error("This system gives no mount namespace: be root, or allow `unshare -rm`.");
  const command = [process.execPath, join(root, "cli", "bin", "kernlock.cjs"), ...args];
  return new Promise((done, failed) => {
    const child = spawn("unshare", [mountNamespaces ?? "", "sh", "-c", script, "sh", folder, ...command], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", failed);
    child.on("close", (code) => {
      if (code === 99) failed(new Error(`The mount namespace could not be made: ${stderr}`));
      else done({ status: code ?? 1, stdout, stderr });
    });
  });
}
