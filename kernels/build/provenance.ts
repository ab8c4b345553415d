import { canonicalJson, type Digest, digestHex } from "../format/index.ts";
import { type Compiled, systemDigest } from "./compile.ts";
import type { KernelSource } from "./source.ts";
import { sourceDateEpoch, type Toolchain } from "./toolchain.ts";
import { isUpstream, wheelUrl } from "./upstream.ts";

/** What `buildDefinition` means; described in docs/build.md. */
export const buildType = "https://kernlock.dev/build/package/v1";
export type Scope = "index" | "variant";

export interface ProvenanceFacts {
  readonly source: KernelSource;
  readonly scope: Scope;
  readonly variant: string | null;
  readonly subject: Digest;
  readonly builderId: string;
  readonly revision: string;
  /** Whether the builder read the revision from git itself, or was told. */
  readonly revisionFrom: "git" | "caller";
  /** Digests of the package's files that were read, by name; `kernel.json`, card and licence among them. */
  readonly inputs: ReadonlyMap<string, Digest>;
  readonly compiled: readonly { readonly variant: string; readonly outputs: readonly Compiled[] }[];
  readonly toolchain: Toolchain;
  /** What the build made, by name. */
  readonly byproducts: ReadonlyMap<string, Digest>;
}

/** The bytes of an unsigned in-toto statement with SLSA provenance v1. The same facts give the same bytes: it holds no dates. */
export function provenanceStatement(facts: ProvenanceFacts): Uint8Array {
  const { source, toolchain, compiled } = facts;
  const digest = (d: Digest) => ({ sha256: digestHex(d) });
  const system = new Map(compiled.flatMap((c) => c.outputs.flatMap((o) => [...o.system])));
  const extra = new Map(compiled.flatMap((c) => c.outputs.flatMap((o) => o.tools)).map((t) => [t.name, t]));
  const tools = [...toolchain.tools, ...[...extra.values()].sort((a, b) => (a.name < b.name ? -1 : 1))];
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: source.name, digest: digest(facts.subject) }],
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType,
        externalParameters: {
          package: source.name,
          version: source.version,
          variant: facts.variant,
          scope: facts.scope,
          source: { repository: source.source.repository, revision: facts.revision },
        },
        internalParameters: {
          compiler: { name: toolchain.compiler, version: toolchain.version, target: toolchain.target },
          outputs: compiled.flatMap((c) =>
            c.outputs.map((o) => ({
              variant: c.variant,
              output: o.output,
              ...o.flags,
            })),
          ),
          revisionFrom: facts.revisionFrom,
          sourceDateEpoch,
        },
        resolvedDependencies: [
          sourceDependency(source.source.repository, facts.revision),
          ...[...facts.inputs]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([name, d]) => {
              const upstream = source.upstream.find((u) => `src/${u.path}` === name);
              return { name, ...(upstream === undefined ? {} : { uri: upstream.url }), digest: digest(d) };
            }),
          ...tools.map((t) => ({ name: `tool/${t.name}`, digest: digest(t.digest) })),
          ...wheelDependencies(compiled.flatMap((c) => c.outputs)),
          { name: "system-files", digest: digest(systemDigest(system)), annotations: { files: system.size } },
        ],
      },
      runDetails: {
        builder: { id: facts.builderId },
        byproducts: [...facts.byproducts].map(([name, d]) => ({ name, digest: digest(d) })),
      },
    },
  };
  return Buffer.from(canonicalJson(statement));
}

/** Wheels that compiled are tools; those that sources come from are upstream. */
function wheelDependencies(outputs: readonly Compiled[]): Record<string, unknown>[] {
  const sets = new Map(outputs.flatMap((o) => o.wheels).map((set) => [set.name, set]));
  return [...sets.values()]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((set) =>
      set.wheels.map((w) => ({
        name: `${isUpstream(set) ? "upstream" : "tool"}/${w.name}`,
        uri: wheelUrl(w),
        digest: { sha256: digestHex(w.digest) },
        annotations: { file: w.file },
      })),
    );
}

/** The commit stands as a digest only where the files really are that commit's. */
function sourceDependency(repository: string, revision: string): Record<string, unknown> {
  const uri = `git+${repository}`;
  if (revision === "unversioned") return { uri, annotations: { state: "unversioned" } };
  const [commit, dirty] = revision.split("-");
  if (dirty !== undefined) return { uri, annotations: { state: "dirty", base: commit } };
  return { uri: `${uri}@${commit}`, digest: { gitCommit: commit } };
}
