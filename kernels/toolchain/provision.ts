/** Fetches and checks wheel sets and prints their folders: `node kernels/toolchain/provision.ts [nvcc] [triton] [liger-kernel]`. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { KernlockError } from "../format/index.ts";
import { provision, type SetName, setNames } from "./index.ts";

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !(setNames as readonly string[]).includes(name));
if (unknown !== undefined) {
  process.stderr.write(`There is no set ${unknown}; there are ${setNames.join(", ")}.\n`);
  process.exit(2);
}
try {
  for (const name of wanted.length > 0 ? (wanted as SetName[]) : setNames) {
    const start = performance.now();
    const { folder } = await provision(name, { onProgress: (line) => process.stderr.write(`${line}\n`) });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    process.stderr.write(`${name}: ${await megabytes(folder)} MB unpacked, ${seconds} s\n`);
    process.stdout.write(`${folder}\n`);
  }
} catch (error) {
  if (!(error instanceof KernlockError)) throw error;
  process.stderr.write(`[${error.code}] ${error.message}\n${error.remedy ?? ""}\n${error.details.output ?? ""}\n`);
  process.exit(1);
}

async function megabytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return Math.round(bytes / 1e6);
}
