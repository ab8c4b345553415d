/** What an operator says about mirrors, on the registry's machine. */
import { randomBytes } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import type { Namespace } from "../admin.ts";
import type { AuditEntry, Records } from "../store/records.ts";
import { checkMirror, type Mirror, type MirrorSettings } from "./mirrors.ts";

export interface MirrorDeclarations {
  /**
   * From then on the names under `pattern` are filled from the upstream, and nothing is published under them here. Says
   * it again with other settings for a mirror that is there; its upstream stays the same.
   * Throws KL_MIRROR_CONFIG, KL_MIRROR_OVERLAP, KL_MIRROR_LOCAL, KL_REGISTRY_NAMESPACE_UNKNOWN.
   */
  declareMirror(options: {
    pattern: string;
    origin: string;
    prefix?: string;
    settings?: Partial<MirrorSettings>;
    /** What lies under these names came from this upstream. */
    adopt?: boolean;
  }): Promise<Mirror>;
  listMirrors(): Promise<(Mirror & { readonly packages: readonly string[] })[]>;
  /** Its upstream is not asked any more; what came from it stays, and is the namespace's own. False for none. */
  dropMirror(pattern: string): Promise<boolean>;
}

export function mirrorDeclarations(
  records: Records,
  now: () => Date,
  audit: (action: string, subject: string, details?: Record<string, unknown>) => AuditEntry,
  known: (namespace: string) => Promise<Namespace>,
): MirrorDeclarations {
  const find = async (pattern: string) => (await records.mirrors()).find((mirror) => mirror.pattern === pattern);
  return {
    async declareMirror({ adopt = false, ...given }) {
      const checked = checkMirror(given);
      const { kind } = await known(checked.namespace);
      if (kind === "artifacts" && checked.settings.coolDownDays > 0) {
        fail("KL_MIRROR_CONFIG", "No trusted clock says since when a plain artifact exists.", {
          remedy: "A cool-down is for kernels; leave it out.",
        });
      }
      const details = { origin: checked.origin, prefix: checked.prefix, ...checked.settings };
      const before = await find(checked.pattern);
      if (before !== undefined) {
        if (before.origin !== checked.origin || before.prefix !== checked.prefix) {
          fail("KL_MIRROR_OVERLAP", `${checked.pattern} is a mirror of ${before.origin} already.`, {
            remedy: "Drop it first; what came from there stays.",
          });
        }
        await records.updateMirror(before.id, checked.settings, audit("mirror.update", checked.pattern, details));
        return { ...before, settings: checked.settings };
      }
      const mirror: Mirror = { ...checked, id: randomBytes(6).toString("hex"), createdAt: now().toISOString() };
      const entry = audit("mirror.declare", mirror.pattern, { id: mirror.id, ...details });
      const { overlaps, local } = await records.addMirror(mirror, adopt, entry);
      if (overlaps !== undefined) {
        fail("KL_MIRROR_OVERLAP", `The mirror ${overlaps} has some of the names of ${mirror.pattern}.`, {
          remedy: "Choose patterns that no name falls under twice.",
        });
      }
      if (local !== undefined) {
        const names = local.slice(0, 10).join(", ");
        fail("KL_MIRROR_LOCAL", `Packages of this registry's own lie under ${mirror.pattern}: ${names}.`, {
          remedy: "Name what is to be mirrored more closely; if they came from this upstream, say --adopt.",
          details: { local },
        });
      }
      return mirror;
    },
    async listMirrors() {
      const all = await records.mirrors();
      return Promise.all(
        all.map(async (mirror) => ({ ...mirror, packages: await records.mirroredRepositories(mirror.id) })),
      );
    },
    async dropMirror(pattern) {
      const mirror = await find(pattern);
      if (mirror === undefined) return false;
      return records.removeMirror(mirror.id, audit("mirror.drop", pattern, { id: mirror.id, origin: mirror.origin }));
    },
  };
}
