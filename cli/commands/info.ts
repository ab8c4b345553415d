import { parsePackageName } from "@kernlock/kernels/format";
import type { Command } from "commander";
import { z } from "zod";
import { command, withProject } from "../command.ts";
import { bytesText, table } from "../output.ts";
import type { ProjectOptions } from "../project.ts";
import { type RegistryFlags, registryOrigin, withRegistry } from "../registry-access.ts";
import { apiGet } from "../registry-api.ts";

const kernelAnswer = z.object({
  latest: z.string(),
  versions: z.array(z.object({ version: z.string(), digest: z.string() })),
});
const versionAnswer = z.looseObject({
  name: z.string(),
  version: z.string(),
  digest: z.string(),
  description: z.string(),
  license: z.string(),
  source: z.object({ repository: z.string(), revision: z.string() }),
  published_at: z.string(),
  signers: z.array(z.string()),
  builders: z.array(z.string()),
  variants: z.array(
    z.looseObject({
      variant: z.string(),
      manifest: z.object({ digest: z.string(), size: z.number() }),
      files: z.array(z.looseObject({ path: z.string(), digest: z.string(), size: z.number() })),
    }),
  ),
});

export function infoCommand(): Command {
  return command<RegistryFlags & ProjectOptions>(
    "info <name[@version]>",
    "what a registry knows of a kernel: versions, variants, digests, signers, source",
    (target) => withRegistry(withProject(target)),
    async ({ output, options, args }) => {
      const [text = "", wanted] = (args[0] ?? "").split("@");
      const name = parsePackageName(text);
      const path = `/api/v1/kernels/${typeof name === "string" ? name : text}`;
      const origin = registryOrigin(options);
      const kernel = await apiGet(origin, path, kernelAnswer, options);
      const version = await apiGet(
        origin,
        `${path}/${encodeURIComponent(wanted ?? kernel.latest)}`,
        versionAnswer,
        options,
      );
      output.result({ ...version, versions: kernel.versions }, () => infoText(version, kernel.versions));
      return 0;
    },
  );
}

function infoText(
  version: z.infer<typeof versionAnswer>,
  versions: readonly { version: string; digest: string }[],
): string {
  const head = table([
    [`${version.name} ${version.version}`, version.description],
    ["digest", version.digest],
    ["licence", version.license],
    ["source", `${version.source.repository} @ ${version.source.revision}`],
    ["builder", version.builders.join(", ")],
    ["signer", version.signers.join(", ")],
    ["published", version.published_at],
    ["versions", versions.map((v) => v.version).join(", ")],
  ]);
  const variants = version.variants.map(
    (variant) =>
      `\n${variant.variant}  ${variant.manifest.digest}\n${table(variant.files.map((f) => [`  ${f.path}`, bytesText(f.size), f.digest]))}`,
  );
  return `${head}${variants.join("")}`;
}
