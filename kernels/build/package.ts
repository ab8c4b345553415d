import type { Digest, Variant } from "../format/index.ts";
import type { Scope } from "./provenance.ts";

export interface BuildOptions {
  /** Folder of the package: kernel.json and its sources. */
  readonly packageFolder: string;
  /** Folder of the OCI layout to write; made where it is missing. The index gets the tag `<version>`. */
  readonly out: string;
  /** URI of who builds; it counts only when signed by a key that the policy binds to it. */
  readonly builderId: string;
  /** Commit of the sources, with `-dirty` appended where files differ from it. Default: what git says of the folder, else `unversioned`. */
  readonly revision?: string;
  /** Build only these variant keys. Default: all. */
  readonly variants?: readonly string[];
  /** Longest time for one compiler call. Default 300 s. */
  readonly timeoutMs?: number;
  /** One line on each step. */
  readonly onProgress?: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface BuildResult {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  readonly variants: readonly { readonly variant: string; readonly manifest: Digest; readonly facts: Variant }[];
  /** Unsigned in-toto statements, also in the folder `statements/` of the layout. `subject` is what the signed bundle refers to. */
  readonly statements: readonly {
    readonly scope: Scope;
    readonly variant: string | null;
    readonly subject: Digest;
    readonly file: string;
    readonly bytes: Uint8Array;
  }[];
}

/** Builds a package. Throws `KL_BUILD_*`, and `KL_ELF_*` for a library that no loader would take. */
export function buildPackage(_options: BuildOptions): Promise<BuildResult> {
  throw new Error("to come");
}
