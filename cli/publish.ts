import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Digest, digestOf, fail, mediaTypes, parseStrictJson } from "@kernlock/kernels/format";
import {
  bundleManifest,
  type Descriptor,
  emptyConfigBlob,
  OciLayout,
  parseKernelIndex,
  parseVariantManifest,
  type RegistryClient,
} from "@kernlock/kernels/oci";
import { createBundle, describeBundle, type Signer } from "@kernlock/policies/trust";
import { z } from "zod";

export interface Published {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  readonly bundles: number;
  /** `staged`: the namespace wants somebody else to approve it first. */
  readonly state: "published" | "staged";
}

const statementShape = z.looseObject({
  predicateType: z.string(),
  subject: z.array(z.looseObject({ digest: z.record(z.string(), z.string()) })).length(1),
});

/**
 * Signs a layout's statements and pushes everything: files, manifests, bundles (also `more`, which others signed, about
 * the version or its variants), and last the version tag, which is where the registry decides. Whatever fails before leaves nothing that a reader could see.
 */
export async function publishLayout(
  folder: string,
  signer: Signer,
  registry: RegistryClient,
  onProgress: (line: string) => void = () => {},
  more: readonly { readonly file: string; readonly bytes: Uint8Array }[] = [],
): Promise<Published> {
  const layout = await OciLayout.open(folder);
  const tags = await layout.tags();
  if (tags.length !== 1 || tags[0] === undefined)
    fail("KL_PUBLISH_LAYOUT", `the layout holds ${tags.length} versions; a publish takes exactly one`, {
      remedy: "Build into an empty folder.",
    });
  const descriptor = await layout.resolve(tags[0]);
  const indexBytes = await layout.getBlob(descriptor.digest);
  const index = parseKernelIndex(indexBytes);

  const subjects = new Map<string, Descriptor>([[descriptor.digest, { ...descriptor, mediaType: mediaTypes.index }]]);
  for (const { variant, manifest } of index.variants) {
    const bytes = await layout.getBlob(manifest.digest);
    const { config, files } = parseVariantManifest(bytes);
    for (const blob of [config, ...files]) {
      onProgress(`${index.name} ${index.version} ${variant} ${blob.digest}`);
      await registry.putBlob(index.name, blob.digest, await layout.getBlob(blob.digest));
    }
    await registry.putManifest(index.name, manifest.digest, bytes, mediaTypes.manifest);
    subjects.set(manifest.digest, { ...manifest, mediaType: mediaTypes.manifest });
  }
  await registry.putManifest(index.name, descriptor.digest, indexBytes, mediaTypes.index);
  await registry.putBlob(index.name, emptyConfigBlob.digest, emptyConfigBlob.bytes);

  const statements = readStatements(join(folder, "statements"));
  for (const { file, bytes } of statements) {
    const parsed = statementShape.safeParse(parseStrictJson(bytes, { what: file }));
    const subject = parsed.success ? subjects.get(`sha256:${parsed.data.subject[0]?.digest.sha256}`) : undefined;
    if (!parsed.success || subject === undefined)
      return fail("KL_PUBLISH_STATEMENT", `${file} is not a statement about this version`, {
        remedy: "Build again into an empty folder.",
      });
    await attach(await createBundle(bytes, signer), subject, parsed.data.predicateType);
    onProgress(`${index.name} ${index.version} signed ${file}`);
  }
  for (const { file, bytes } of more) {
    const said = describeBundle(bytes);
    const subject = said?.subjects.map((digest) => subjects.get(digest)).find((found) => found !== undefined);
    if (!said || subject === undefined)
      return fail("KL_PUBLISH_STATEMENT", `${file} is no bundle about this version`, {
        remedy: "Make it with `kernlock attest … --index` from the layout's index.",
      });
    await attach(bytes, subject, said.predicateType);
    onProgress(`${index.name} ${index.version} attached ${file}`);
  }
  let state: Published["state"] = "published";
  await registry.putManifest(index.name, index.version, indexBytes, mediaTypes.index, (told) => {
    if (told === "staged") state = "staged";
  });
  return {
    name: index.name,
    version: index.version,
    index: descriptor.digest,
    bundles: statements.length + more.length,
    state,
  };

  async function attach(bundle: Uint8Array, subject: Descriptor, predicateType: string): Promise<void> {
    const manifest = bundleManifest({ bundle, subject, predicateType });
    await registry.putBlob(index.name, digestOf(bundle), bundle);
    await registry.putManifest(index.name, digestOf(manifest), manifest, mediaTypes.manifest);
  }
}

function readStatements(folder: string): { file: string; bytes: Uint8Array }[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .sort()
      .map((file) => ({ file, bytes: readFileSync(join(folder, file)) }));
  } catch (error) {
    return fail("KL_PUBLISH_LAYOUT", "the layout has no statements to sign", {
      remedy: "Build it with `kernlock build`.",
      cause: error,
    });
  }
}
