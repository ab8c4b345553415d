import { KernlockError } from "@kernlock/kernels/format";
import { z } from "zod";
import type { RegistryFlags } from "./registry-access.ts";
import { apiGet } from "./registry-api.ts";

export interface VersionNote {
  /** `yanked`, `quarantined`, or what a later registry may call it. */
  readonly state: string;
  readonly reason: string | null;
  readonly since: string | null;
}

const kernel = z.object({
  versions: z.array(
    z.object({
      version: z.string(),
      state: z.string().optional(),
      state_reason: z.string().nullable().optional(),
      state_at: z.string().nullable().optional(),
    }),
  ),
});

/**
 * Versions with which something is wrong, as the registry says. A plain OCI registry says nothing: it has no such API.
 */
export async function versionNotes(
  origin: string,
  name: string,
  flags: RegistryFlags,
): Promise<ReadonlyMap<string, VersionNote>> {
  try {
    const { versions } = await apiGet(origin, `/api/v1/kernels/${name}`, kernel, flags);
    return new Map(
      versions.flatMap(({ version, state, state_reason: reason = null, state_at: since = null }) =>
        state === undefined ? [] : [[version, { state, reason, since }] as const],
      ),
    );
  } catch (error) {
    const silent =
      error instanceof KernlockError && /^KL_(REGISTRY_(ANSWER|KERNEL_UNKNOWN|NOT_FOUND)|JSON_)/.test(error.code);
    if (silent) return new Map();
    throw error;
  }
}

/** In words, after a version's name. */
export function noteText({ state, reason, since }: VersionNote): string {
  const what = state === "quarantined" ? "is in quarantine" : `was ${state}`;
  const when = since === null ? "" : ` ${state === "quarantined" ? "since" : "on"} ${since.slice(0, 10)}`;
  return `${what}${when}${reason === null ? "" : `: ${reason}`}`;
}
