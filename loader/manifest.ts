import { fail, prettyJson } from "@kernlock/kernels/format";
import type { Manifest } from "./types.ts";

/** Reads `kernels.json`. Throws KL_MANIFEST_*. */
export function parseManifest(bytes: Uint8Array | string): Manifest {
  void bytes;
  return fail("KL_MANIFEST_MALFORMED", "not yet");
}

export function formatManifest(manifest: Manifest): string {
  return prettyJson(manifest);
}
