import { type Digest, digestOf, type ErrorCode, fail, KernlockError } from "@kernlock/kernels/format";

const remedies: Readonly<Record<string, string>> = {
  KL_BUNDLE_UNKNOWN_KEY: "If you trust this signer, name its key in the policy; otherwise do not use what it signed.",
  KL_BUNDLE_IDENTITY: "If you trust this signer, name its identity in the policy; otherwise do not use what it signed.",
  KL_BUNDLE_KEY_WINDOW: "Ask the publisher to sign with a current key, or correct this machine's clock.",
  KL_BUNDLE_CERTIFICATE:
    "Ask the publisher for a bundle whose certificate, timestamp and log agree with your trusted root.",
  KL_BUNDLE_MATERIAL: "Name the trusted root that these belong to, or ask for a bundle without them.",
};

/** Refuses a bundle. `bounded` adds which bundle it was. */
export function refuse(code: ErrorCode, message: string, details: Record<string, unknown> = {}): never {
  return fail(code, message, {
    remedy: remedies[code] ?? "Fetch the bundle again; if it stays like this, ask its publisher for a new one.",
    details,
  });
}

/**
 * The one boundary between hostile bytes and callers (G11): whatever a parser or a library throws inside leaves here as
 * a KL_BUNDLE_* error that names the bundle's digest.
 */
export function bounded<T>(bytes: Uint8Array, run: (bundle: Digest) => T): T {
  const bundle = digestOf(bytes);
  try {
    return run(bundle);
  } catch (error) {
    const known = error instanceof KernlockError;
    const typed = known && error.code.startsWith("KL_BUNDLE_");
    throw new KernlockError(
      typed ? error.code : "KL_BUNDLE_MALFORMED",
      typed ? error.message : `The bundle cannot be read${known ? `: ${error.message.replace(/\.$/, "")}` : ""}.`,
      {
        remedy: typed
          ? error.remedy!
          : "Fetch the bundle again; if it stays like this, ask its publisher for a new one.",
        details: { bundle, ...(typed ? error.details : {}) },
      },
    );
  }
}
