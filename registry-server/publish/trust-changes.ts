/** What differs between two versions in whom and what one has to trust. */
import type { VersionDocument } from "./documents.ts";

type Trusted = Pick<VersionDocument, "signers" | "builders" | "source">;

export interface TrustChange {
  readonly what: "signer" | "builder" | "source";
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export function trustChanges(before: Trusted, after: Trusted): TrustChange[] {
  const changes: TrustChange[] = [
    { what: "signer", before: before.signers, after: after.signers },
    { what: "builder", before: before.builders, after: after.builders },
    { what: "source", before: [before.source.repository], after: [after.source.repository] },
  ];
  return changes.filter((change) => [...change.before].sort().join("\n") !== [...change.after].sort().join("\n"));
}
