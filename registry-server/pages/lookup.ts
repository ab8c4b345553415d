/** What the pages ask the registry's records; everything in here is undefined to readers who may not see it. */
import { isPackageName } from "@kernlock/kernels/format";
import { type Policy, parsePolicy } from "@kernlock/policies/trust";
import semver from "semver";
import { mayRead, type Principal } from "../access.ts";
import type { Namespace } from "../admin.ts";
import type { Context } from "../context.ts";
import type { VersionDocument } from "../publish/documents.ts";
import { type TrustChange, trustChanges } from "../publish/trust-changes.ts";
import { findVersion, listVersions, standings } from "../review/states.ts";
import type { KernelRow, ListedVersion } from "../store/records.ts";
import { type Facets, facetsOf, type Hit } from "./facets.ts";

export interface KernelParams {
  readonly namespace: string;
  readonly name: string;
}

export interface FoundKernel {
  readonly owner: Namespace;
  /** For its members also one of which nothing is published yet. */
  readonly kernel: Pick<KernelRow, "repository" | "latest">;
  /** Highest first, quarantined ones among them; for members also those that wait for a review. */
  readonly versions: readonly ListedVersion[];
  /** Any of these as the reader finds it. */
  version(wanted: string): ReturnType<typeof findVersion>;
}

const maxRemembered = 2000;

export function createLookup(context: Context) {
  const { records } = context;
  // Versions never change, so neither do these.
  const facets = new Map<string, Facets>();

  async function namespace(principal: Principal, name: string): Promise<Namespace | undefined> {
    const found = await records.namespace(name);
    return mayRead(principal, found) ? found : undefined;
  }

  async function kernel(principal: Principal, params: KernelParams): Promise<FoundKernel | undefined> {
    const repository = `${params.namespace}/${params.name}`;
    const owner = isPackageName(repository) ? await namespace(principal, params.namespace) : undefined;
    if (owner === undefined) return undefined;
    const versions = (await listVersions(records, principal, repository)).sort((a, b) =>
      semver.rcompare(a.version, b.version),
    );
    const [first] = versions.filter((listed) => listed.state === "staged");
    const row = await records.kernel(repository);
    if (row === undefined && first === undefined) return undefined;
    return {
      owner,
      kernel: row ?? { repository, latest: first!.version },
      versions,
      version: (wanted) => findVersion(records, principal, repository, wanted),
    };
  }

  /** Of a version that the reader may have. */
  async function document(found: FoundKernel, wanted: string): Promise<VersionDocument | undefined> {
    const known = await found.version(wanted);
    return known === undefined || known.withheld ? undefined : (JSON.parse(known.found.document) as VersionDocument);
  }

  /** How trust differs from the version before, which is the next lower one that is not in quarantine. */
  async function changesSince(
    found: FoundKernel,
    of: VersionDocument,
  ): Promise<{ before: string; list: readonly TrustChange[] } | undefined> {
    const at = found.versions.findIndex((v) => v.version === of.version);
    const before = found.versions.slice(at + 1).find((v) => standings[v.state].opens === "readers");
    const earlier = before === undefined ? undefined : await document(found, before.version);
    return earlier === undefined ? undefined : { before: earlier.version, list: trustChanges(earlier, of) };
  }

  async function withFacets(kernels: readonly KernelRow[]): Promise<Hit[]> {
    const hits = await Promise.all(
      kernels.map(async (row): Promise<Hit | undefined> => {
        const key = `${row.repository}@${row.latest}`;
        const known = facets.get(key);
        if (known !== undefined) return { kernel: row, facets: known };
        const latest = await records.version(row.repository, row.latest);
        if (latest === undefined || standings[latest.state].opens !== "readers") return undefined;
        const found = facetsOf(JSON.parse(latest.document) as VersionDocument);
        if (facets.size >= maxRemembered) facets.clear();
        facets.set(key, found);
        return { kernel: row, facets: found };
      }),
    );
    return hits.filter((hit) => hit !== undefined);
  }

  return { namespace, kernel, document, changesSince, withFacets };
}

export function policyOf(owner: Namespace): Policy {
  return parsePolicy(owner.policy);
}
