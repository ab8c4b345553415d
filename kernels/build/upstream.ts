import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ProvisionedSet, Wheel } from "../toolchain/index.ts";
import type { Compiled } from "./compile.ts";

/** Whether a set holds sources that are compiled, rather than compilers. */
export const isUpstream = (set: Pick<ProvisionedSet, "name">) => set.name === "liger-kernel";

/** A package URL. */
export const wheelUrl = (w: Pick<Wheel, "name" | "version">) => `pkg:pypi/${w.name}@${w.version}`;

function upstreamSets(outputs: readonly Compiled[]): ProvisionedSet[] {
  const sets = outputs.flatMap((o) => o.wheels).filter(isUpstream);
  return [...new Map(sets.map((set) => [set.name, set])).values()];
}

/** Wheels whose code the outputs hold in compiled form. */
export function upstreamWheels(outputs: readonly Compiled[]): Wheel[] {
  return upstreamSets(outputs).flatMap((set) => set.wheels);
}

/** Licence texts and notices of those wheels, which have to go where the compiled code goes. */
export async function upstreamLicenses(outputs: readonly Compiled[]): Promise<{ path: string; bytes: Uint8Array }[]> {
  const found = [];
  for (const set of upstreamSets(outputs)) {
    for (const name of (await readdir(set.folder)).filter((n) => n.endsWith(".dist-info")).sort()) {
      const folder = join(set.folder, name, "licenses");
      for (const file of (await readdir(folder).catch(() => [])).sort())
        found.push({ path: `upstream/${set.name}/${file}`, bytes: await readFile(join(folder, file)) });
    }
  }
  return found;
}
