/**
 * Builds the CUDA variants of all packages into `.build/cuda-all/` and prints what they are as a Markdown table:
 * `node scripts/cuda/build-all.ts [sm_80 sm_90a ...]`. Without an architecture, all of them. Fails where one fails.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildPackage, parseKernelSource } from "@kernlock/kernels/build";
import { KernlockError, payloadFiles } from "@kernlock/kernels/format";
import { builder, packages, root } from "../project.ts";

const wanted = process.argv.slice(2);
const out = join(root, ".build", "cuda-all");
rmSync(out, { recursive: true, force: true });
const lines = ["| package | architecture | ops | payload, bytes | seconds | manifest |", "|---|---|---|---|---|---|"];
let failed = 0;
for (const name of packages) {
  const packageFolder = join(root, "kernels", name);
  const { variants } = parseKernelSource(readFileSync(join(packageFolder, "kernel.json")));
  for (const { variant, backend } of variants) {
    if (backend.kind !== "cuda") continue;
    const architecture = backend.architectures.join();
    if (wanted.length > 0 && !wanted.includes(architecture)) continue;
    const start = performance.now();
    try {
      const folder = join(out, name, architecture);
      const result = await buildPackage({ packageFolder, out: folder, builderId: builder, variants: [variant] });
      const [{ manifest, facts }] = result.variants as [(typeof result.variants)[0]];
      const bytes = payloadFiles(facts).reduce((sum, f) => sum + f.size, 0);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const short = manifest.slice(0, "sha256:".length + 16);
      lines.push(`| ${name} | ${architecture} | ${facts.ops.length} | ${bytes} | ${seconds} | \`${short}…\` |`);
      process.stderr.write(`built ${name} ${architecture} in ${seconds} s\n`);
    } catch (error) {
      if (!(error instanceof KernlockError)) throw error;
      failed++;
      process.stderr.write(`${name} ${architecture}: [${error.code}] ${error.message}\n${error.remedy ?? ""}\n`);
    }
  }
}
process.stdout.write(`${lines.join("\n")}\n`);
process.exitCode = failed > 0 ? 1 : 0;
