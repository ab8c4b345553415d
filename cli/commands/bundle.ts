import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fail } from "@kernlock/kernels/format";
import { assertVerified, openCache, verifyLocked } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { usage } from "../errors.ts";
import { type KeyFlags, signerFrom, withKey } from "../keys/flags.ts";
import { readLock, readManifest, readPolicy } from "../locked.ts";
import { bytesText } from "../output.ts";
import { makePortable } from "../portable/make.ts";
import { checkPortable } from "../portable/manifest.ts";
import { findProject, type ProjectOptions } from "../project.ts";

interface Options extends ProjectOptions, KeyFlags {
  readonly portable?: string;
  readonly check?: string;
  readonly trust?: string;
}

const root = resolve(import.meta.dirname, "..", "..");

export function bundleCommand(): Command {
  return command<Options>(
    "bundle",
    "pack this program with a project's kernels for machines that have nothing but a C library (and a GPU driver)",
    (target) =>
      withKey(withProject(target))
        .option("--portable <out>", "a new folder, or a file that ends in .tar.xz")
        .option("--check <folder>", "hold an unpacked folder to its signed manifest")
        .option("--trust <file>", "with --check: the public key (SPKI PEM) that must have signed it"),
    async ({ output, options }) => {
      if ((options.portable === undefined) === (options.check === undefined)) {
        usage("bundle needs --portable or --check.");
      }
      if (options.check !== undefined) {
        if (options.trust === undefined) usage("--check needs --trust.");
        const checked = checkPortable(options.check, readFileSync(options.trust, "utf8"), new Date());
        output.result(checked, () => `${checked.files} files as signed by ${checked.signer}\n`);
        return 0;
      }
      const out = resolve(options.portable!);
      const signer = signerFrom(options);
      const project = findProject(options);
      const lock = readLock(project);
      const policy = readPolicy(project);
      const cache = openCache(project.cache);
      assertVerified(await verifyLocked({ lock, manifest: readManifest(project), policy, cache, now: new Date() }));
      const { version } = JSON.parse(readFileSync(join(root, "cli", "package.json"), "utf8")) as { version: string };
      const packed = out.endsWith(".tar.xz");
      const folder = packed ? join(mkdtempSync(join(dirname(out), ".kernlock-")), basename(out, ".tar.xz")) : out;
      if (existsSync(folder) && readdirSync(folder).length > 0) {
        fail("KL_CLI_FILE", `${folder} is not empty.`, { remedy: "Name a new folder." });
      }
      mkdirSync(folder, { recursive: true });
      try {
        const onProgress = (line: string): void => output.progress(line);
        const files = await makePortable({ root, version, project, lock, signer, out: folder, onProgress });
        if (packed) pack(folder, out, onProgress);
        const size = packed ? statSync(out).size : null;
        const text = size === null ? "" : `, ${bytesText(size)}`;
        output.result({ path: out, files, size }, () => `${out}: ${files} files${text}\n`);
      } finally {
        if (packed) rmSync(dirname(folder), { recursive: true, force: true });
      }
      return 0;
    },
  );
}

/** The same folder gives the same file: names sorted, no times, no owners. */
function pack(folder: string, file: string, onProgress: (line: string) => void): void {
  onProgress("packing (this takes minutes)");
  const args = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-I", "xz -9e -T1"];
  const ran = spawnSync("tar", [...args, "-cf", file, "-C", dirname(folder), basename(folder)], { encoding: "utf8" });
  if (ran.status !== 0) {
    fail("KL_CLI_FILE", `tar and xz could not write ${file} (${(ran.stderr ?? "").trim().slice(0, 200)}).`, {
      remedy: "Install GNU tar and xz, or bundle into a folder.",
    });
  }
}
