import { digestHex, prettyJson, type VariantFile } from "../format/index.ts";
import type { Wheel } from "../toolchain/index.ts";
import type { KernelSource } from "./source.ts";
import { wheelUrl } from "./upstream.ts";

/**
 * A CycloneDX 1.6 bill of materials: the payload files, the upstream files and wheels that code in them comes from, the
 * libraries they ask for. No dates.
 */
export function sbom(
  source: KernelSource,
  variant: string,
  payload: readonly VariantFile[],
  needed: readonly string[],
  wheels: readonly Wheel[],
): string {
  const licenses = [{ expression: source.license }];
  const hashes = (digest: VariantFile["digest"]) => [{ alg: "SHA-256", content: digestHex(digest) }];
  return prettyJson({
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "library",
        "bom-ref": `${source.name}@${source.version}`,
        name: source.name,
        version: source.version,
        description: source.summary,
        licenses,
        externalReferences: [{ type: "vcs", url: source.source.repository }],
        properties: [{ name: "dev.kernlock.variant", value: variant }],
      },
    },
    components: [
      ...payload.map((f) => ({
        type: "file",
        "bom-ref": `file:${f.path}`,
        name: f.path,
        hashes: hashes(f.digest),
        licenses,
      })),
      ...source.upstream.map((u) => ({
        type: "file",
        "bom-ref": `upstream:${u.path}`,
        name: u.path,
        hashes: hashes(u.digest),
        externalReferences: [{ type: "distribution", url: u.url }],
      })),
      ...wheels.map((w) => ({
        type: "library",
        "bom-ref": wheelUrl(w),
        name: w.name,
        version: w.version,
        purl: wheelUrl(w),
        hashes: hashes(w.digest),
      })),
      ...needed.map((library) => ({
        type: "library",
        "bom-ref": `system:${library}`,
        name: library,
        scope: "required",
        properties: [{ name: "dev.kernlock.provided-by", value: "system" }],
      })),
    ],
    dependencies: [
      { ref: `${source.name}@${source.version}`, dependsOn: payload.map((f) => `file:${f.path}`) },
      ...payload.map((f) => ({ ref: `file:${f.path}`, dependsOn: needed.map((library) => `system:${library}`) })),
    ],
  });
}
