/** The list of everything in a portable folder, signed, and its check. */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join, relative } from "node:path";
import { canonicalJson, type Digest, digestOf, fail, parseStrictJson, prettyJson } from "@kernlock/kernels/format";
import { createBundle, type Signer, trustedKey, verifyBundle } from "@kernlock/policies/trust";
import { z } from "zod";

export const manifestName = "manifest.json";
export const signatureName = "manifest.sigstore.json";
export const portableType = "https://kernlock.dev/portable/v1";

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const entry = z.union([
  z.strictObject({ path: z.string(), digest, size: z.number().int().nonnegative(), executable: z.boolean() }),
  z.strictObject({ path: z.string(), link: z.string() }),
]);
const manifest = z.strictObject({
  schema: z.literal("kernlock.portable/v1"),
  version: z.string(),
  files: z.array(entry),
});
export type PortableManifest = z.infer<typeof manifest>;
type Entry = z.infer<typeof entry>;

/** Every file and link of a folder, sorted, the manifest and its signature apart. */
export function describe(folder: string): Entry[] {
  const entries: Entry[] = [];
  const walk = (at: string): void => {
    for (const name of readdirSync(at).sort()) {
      const path = join(at, name);
      const inside = relative(folder, path);
      const facts = lstatSync(path);
      if (facts.isDirectory()) walk(path);
      else if (facts.isSymbolicLink()) entries.push({ path: inside, link: readlinkSync(path) });
      else if (inside !== manifestName && inside !== signatureName) {
        const bytes = readFileSync(path);
        const executable = (facts.mode & 0o111) !== 0;
        entries.push({ path: inside, digest: digestOf(bytes), size: bytes.length, executable });
      }
    }
  };
  walk(folder);
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The manifest's bytes, and a bundle over a statement about them. */
export async function signManifest(
  version: string,
  files: readonly Entry[],
  signer: Signer,
): Promise<{ manifest: Uint8Array; signature: Uint8Array }> {
  const bytes = Buffer.from(prettyJson({ schema: "kernlock.portable/v1", version, files }));
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: manifestName, digest: { sha256 } }],
    predicateType: portableType,
    predicate: { version, files: files.length },
  };
  return { manifest: bytes, signature: await createBundle(Buffer.from(canonicalJson(statement)), signer) };
}

export interface Checked {
  readonly files: number;
  readonly signer: Digest;
}

/** Whether a folder is a portable one, whatever became of it since. */
export const isPortable = (folder: string): boolean => existsSync(join(folder, manifestName));

function readPart(folder: string, name: string): Buffer {
  try {
    return readFileSync(join(folder, name));
  } catch {
    return fail("KL_PORTABLE_MANIFEST", `${folder} has no ${name}.`, { remedy: "Name an unpacked portable folder." });
  }
}

/**
 * Holds a folder to its manifest, and the manifest to its signature by the given key.
 * @throws KL_BUNDLE_*; KL_PORTABLE_SIGNATURE, KL_PORTABLE_MANIFEST, KL_PORTABLE_DIFFERS
 */
export function checkPortable(folder: string, publicPem: string, now: Date): Checked {
  const bytes = readPart(folder, manifestName);
  const signed = verifyBundle(readPart(folder, signatureName), { keys: [trustedKey("portable", publicPem)], now });
  const subject = signed.statement.subject[0]?.digest.sha256;
  if (signed.statement.predicateType !== portableType || `sha256:${subject}` !== digestOf(bytes)) {
    fail("KL_PORTABLE_SIGNATURE", "The signature is about something else than this manifest.", {
      remedy: "Get the portable folder again.",
    });
  }
  return { files: checkFiles(folder), signer: signed.signer.fingerprint };
}

/** Holds a folder to its manifest, whoever signed that; gives the number of files. KL_PORTABLE_MANIFEST, _DIFFERS. */
export function checkFiles(folder: string): number {
  const bytes = readPart(folder, manifestName);
  const parsed = manifest.safeParse(parseStrictJson(bytes, { what: manifestName, maxBytes: 16 << 20 }));
  if (!parsed.success) return fail("KL_PORTABLE_MANIFEST", `${manifestName} is malformed.`);
  const wanted = new Map(parsed.data.files.map((one) => [one.path, canonicalJson(one)]));
  const found = new Map(describe(folder).map((one) => [one.path, canonicalJson(one)]));
  const differing = [...new Set([...wanted.keys(), ...found.keys()])].filter(
    (path) => wanted.get(path) !== found.get(path),
  );
  if (differing.length > 0) {
    fail("KL_PORTABLE_DIFFERS", `${differing.length} files differ from the manifest, the first is ${differing[0]}.`, {
      remedy: "Get the portable folder again; do not run this one.",
      details: { files: differing.slice(0, 20) },
    });
  }
  return wanted.size;
}
