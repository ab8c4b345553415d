/** What the pages ask the registry's records; everything in here is undefined to readers who may not see it. */
import { isPackageName, isVersion } from "@kernlock/kernels/format";
import { type Policy, parsePolicy } from "@kernlock/policies/trust";
import semver from "semver";
import { mayRead, type Principal } from "../access.ts";
import type { Namespace } from "../admin.ts";
import type { Context } from "../context.ts";
import type { VersionDocument } from "../publish/documents.ts";
import type { KernelRow, ListedVersion, VersionRow, VersionStatus } from "../store/records.ts";
import { type Facets, facetsOf, type Hit } from "./facets.ts";
import { type TrustChange, trustChanges } from "./trust-changes.ts";

export interface KernelParams {
  readonly namespace: string;
  readonly name: string;
}

export interface FoundKernel {
  readonly owner: Namespace;
  readonly kernel: KernelRow;
  /** Highest first, quarantined ones among them. */
  readonly versions: readonly ListedVersion[];
}

export type FoundVersion = VersionRow & VersionStatus;

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
    const row = owner === undefined ? undefined : await records.kernel(repository);
    if (owner === undefined || row === undefined) return undefined;
    const versions = (await records.versions(repository)).sort((a, b) => semver.rcompare(a.version, b.version));
    return { owner, kernel: row, versions };
  }

  async function version(repository: string, wanted: string): Promise<FoundVersion | undefined> {
    return isVersion(wanted) ? records.version(repository, wanted) : undefined;
  }

  /** Of a version that may be read; undefined for one in quarantine. */
  async function document(repository: string, wanted: string): Promise<VersionDocument | undefined> {
    const row = await version(repository, wanted);
    return row === undefined || row.state === "quarantined" ? undefined : (JSON.parse(row.document) as VersionDocument);
  }

  /** How trust differs from the version before, which is the next lower one that is not in quarantine. */
  async function changesSince(
    found: FoundKernel,
    of: VersionDocument,
  ): Promise<{ before: string; list: readonly TrustChange[] } | undefined> {
    const at = found.versions.findIndex((v) => v.version === of.version);
    const before = found.versions.slice(at + 1).find((v) => v.state !== "quarantined");
    const earlier = before === undefined ? undefined : await document(of.name, before.version);
    return earlier === undefined ? undefined : { before: earlier.version, list: trustChanges(earlier, of) };
  }

  async function withFacets(kernels: readonly KernelRow[]): Promise<Hit[]> {
    const hits = await Promise.all(
      kernels.map(async (row): Promise<Hit | undefined> => {
        const key = `${row.repository}@${row.latest}`;
        const known = facets.get(key);
        if (known !== undefined) return { kernel: row, facets: known };
        const latest = await document(row.repository, row.latest);
        if (latest === undefined) return undefined;
        const found = facetsOf(latest);
        if (facets.size >= maxRemembered) facets.clear();
        facets.set(key, found);
        return { kernel: row, facets: found };
      }),
    );
    return hits.filter((hit) => hit !== undefined);
  }

  return { namespace, kernel, version, document, changesSince, withFacets };
}

export function policyOf(owner: Namespace): Policy {
  return parsePolicy(owner.policy);
}
