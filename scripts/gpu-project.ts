/**
 * Makes a project with CPU and CUDA variants of the five packages in .build/gpu-project/project, for machines with a GPU:
 * `npm run gpu-project`, then `kernlock bundle --portable`. Its policy permits variants that nobody has tested yet, since
 * testing them is what it is for. Wants the CUDA toolchain (docs/kernels.md).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  buildPackages,
  gpuVariants,
  makeProject,
  makeWorkshop,
  publishPackages,
  root,
  startRegistry,
} from "./project.ts";

const say = (line: string): void => console.log(line);
const home = join(root, ".build", "gpu-project");
const workshop = await makeWorkshop(join(home, "work"), { untestedVariants: true });
await buildPackages(workshop, say, gpuVariants);
const registry = await startRegistry(workshop.registryData);
try {
  await publishPackages(workshop, registry.origin, say);
  say(await makeProject(join(home, "project"), readFileSync(workshop.policy, "utf8"), registry.origin, gpuVariants));
} finally {
  await registry.stop();
}
