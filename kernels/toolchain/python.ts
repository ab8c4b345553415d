import { runProgram } from "../build/process.ts";
import { fail } from "../format/index.ts";

/** A CPython of this version for x86-64; any of version 3 where none is asked for. Throws `KL_BUILD_TOOLCHAIN`. */
export async function findPython(version?: string): Promise<string> {
  const probe =
    "import sys,platform as p;print(sys.executable,*sys.version_info[:2],sys.implementation.name,p.machine(),sep='|')";
  for (const name of [...(version === undefined ? [] : [`python${version}`]), "python3"]) {
    const asked = await runProgram(name, ["-I", "-c", probe], { env: { PATH: searchPath() }, timeoutMs: 30_000 });
    const [path, major, minor, kind, machine] = asked.stdout.trim().split("|");
    if (asked.status !== 0 || path === undefined || path === "") continue;
    if (
      version === undefined
        ? major === "3"
        : `${major}.${minor}` === version && kind === "cpython" && machine === "x86_64"
    )
      return path;
  }
  return fail("KL_BUILD_TOOLCHAIN", `No Python ${version ?? "3"} answers on this machine.`, {
    remedy: `Install CPython ${version ?? "3"}; CUDA variants are compiled by wheels for it.`,
  });
}

export const searchPath = () => process.env.PATH ?? "/usr/bin:/bin";
