/** What the parts of a mirror do with what came from an upstream. */
import { digestOf, fail, KernlockError } from "@kernlock/kernels/format";
import type { FetchedManifest } from "@kernlock/kernels/oci";
import type { Namespace } from "../admin.ts";
import { storeManifest } from "../publish/store-manifest.ts";
import type { ManifestRow } from "../store/records.ts";
import type { Kit } from "./kit.ts";
import { actorOf, type Mirror } from "./mirrors.ts";

export interface Subject {
  readonly repository: string;
  readonly owner: Namespace;
  readonly mirror: Mirror;
}

export async function store(
  kit: Kit,
  { repository, owner, mirror }: Subject,
  fetched: FetchedManifest,
): Promise<ManifestRow> {
  const bytes = Buffer.from(fetched.bytes);
  const { row } = await storeManifest(kit.context, {
    repository,
    owner,
    digest: digestOf(bytes),
    mediaType: fetched.mediaType,
    bytes,
    publishes: true,
    administers: true,
    actor: actorOf(mirror),
    // Plain OCI: blobs come one by one.
    ...(owner.kind === "artifacts" ? { blobsFollow: true as const } : {}),
  });
  return row;
}

/** What the upstream names and does not have is no answer of "there is no such version". */
export async function named<T>(fetching: Promise<T>): Promise<T> {
  try {
    return await fetching;
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return fail("KL_MIRROR_UPSTREAM", "The upstream does not have all that its version names.", {
      remedy: "Tell whoever runs the upstream; nothing of it was kept.",
      cause: error,
    });
  }
}

export function isAbsent(error: unknown): boolean {
  return error instanceof KernlockError && error.code === "KL_OCI_NOT_FOUND";
}

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}
