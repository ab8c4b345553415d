/** From Kernlock's codes to HTTP status and the fixed codes of the OCI distribution specification. */
import { KernlockError } from "@kernlock/kernels/format";

export interface HttpError {
  readonly status: number;
  readonly oci: string;
  readonly error: KernlockError;
}

const table: Readonly<Record<string, readonly [status: number, oci: string]>> = {
  KL_REGISTRY_UNAUTHORIZED: [401, "UNAUTHORIZED"],
  KL_REGISTRY_TOKEN_MALFORMED: [401, "UNAUTHORIZED"],
  KL_REGISTRY_TOKEN_UNKNOWN: [401, "UNAUTHORIZED"],
  KL_REGISTRY_TOKEN_SCOPE: [403, "DENIED"],
  KL_REGISTRY_TOKEN_NAMESPACE: [403, "DENIED"],
  KL_REGISTRY_IDENTITY_REFUSED: [401, "UNAUTHORIZED"],
  KL_REGISTRY_IDENTITY_CONFIG: [400, "UNSUPPORTED"],
  KL_REGISTRY_SIGN_IN_REFUSED: [403, "DENIED"],
  KL_REGISTRY_FORM_STALE: [403, "DENIED"],
  KL_REGISTRY_PASSWORD_WEAK: [400, "UNSUPPORTED"],
  KL_REGISTRY_ACCOUNT_EXISTS: [409, "DENIED"],
  KL_REGISTRY_ACCOUNT_UNKNOWN: [404, "UNSUPPORTED"],
  KL_REGISTRY_RATE_LIMIT: [429, "TOOMANYREQUESTS"],
  KL_REGISTRY_QUARANTINED: [403, "DENIED"],
  KL_REGISTRY_CROSS_SITE: [403, "DENIED"],
  KL_REGISTRY_NAME_INVALID: [400, "NAME_INVALID"],
  KL_REGISTRY_NAMESPACE_UNKNOWN: [404, "NAME_UNKNOWN"],
  KL_REGISTRY_NAMESPACE_EXISTS: [409, "DENIED"],
  KL_REGISTRY_KERNEL_UNKNOWN: [404, "NAME_UNKNOWN"],
  KL_REGISTRY_VERSION_UNKNOWN: [404, "MANIFEST_UNKNOWN"],
  KL_REGISTRY_VERSION_EXISTS: [409, "DENIED"],
  KL_REGISTRY_VERSION_REJECTED: [409, "DENIED"],
  KL_REGISTRY_VERSION_NOT_STAGED: [409, "DENIED"],
  KL_REGISTRY_OWN_REVIEW: [403, "DENIED"],
  KL_REGISTRY_ADVISORY_INVALID: [400, "UNSUPPORTED"],
  KL_REGISTRY_NOTICE_OLDER: [409, "DENIED"],
  KL_REGISTRY_NOTICE_UNKNOWN: [404, "UNSUPPORTED"],
  KL_REGISTRY_NO_FEED: [404, "UNSUPPORTED"],
  KL_REGISTRY_FEED_EXISTS: [409, "DENIED"],
  KL_REGISTRY_BUSY: [409, "UNSUPPORTED"],
  KL_REGISTRY_VERSION_INVALID: [400, "MANIFEST_INVALID"],
  KL_REGISTRY_IMMUTABLE: [405, "UNSUPPORTED"],
  KL_REGISTRY_DIGEST_INVALID: [400, "DIGEST_INVALID"],
  KL_REGISTRY_DIGEST_MISMATCH: [400, "DIGEST_INVALID"],
  KL_REGISTRY_BLOB_UNKNOWN: [404, "BLOB_UNKNOWN"],
  KL_REGISTRY_BLOB_DAMAGED: [500, "BLOB_UNKNOWN"],
  KL_REGISTRY_TAG_INVALID: [400, "MANIFEST_INVALID"],
  KL_REGISTRY_NOT_READY: [503, "UNSUPPORTED"],
  KL_REGISTRY_BLOB_TOO_LARGE: [413, "SIZE_INVALID"],
  KL_REGISTRY_UPLOAD_UNKNOWN: [404, "BLOB_UPLOAD_UNKNOWN"],
  KL_REGISTRY_UPLOAD_CUT: [400, "BLOB_UPLOAD_INVALID"],
  KL_REGISTRY_TOO_SLOW: [408, "BLOB_UPLOAD_INVALID"],
  KL_REGISTRY_UPLOAD_RANGE: [416, "BLOB_UPLOAD_INVALID"],
  KL_REGISTRY_UPLOAD_BUSY: [409, "BLOB_UPLOAD_INVALID"],
  KL_REGISTRY_UPLOAD_LIMIT: [429, "TOOMANYREQUESTS"],
  KL_REGISTRY_LENGTH_MISMATCH: [400, "SIZE_INVALID"],
  KL_REGISTRY_RANGE_INVALID: [416, "BLOB_UNKNOWN"],
  KL_REGISTRY_BUNDLE_SUBJECT: [400, "MANIFEST_INVALID"],
  KL_REGISTRY_BUNDLES_FULL: [409, "DENIED"],
  KL_REGISTRY_UNSETTLED: [409, "DENIED"],
  KL_REGISTRY_OPERATOR_FILE: [500, "UNSUPPORTED"],
  KL_REGISTRY_MANIFEST_UNKNOWN: [404, "MANIFEST_UNKNOWN"],
  KL_REGISTRY_MANIFEST_INVALID: [400, "MANIFEST_INVALID"],
  KL_REGISTRY_MANIFEST_INCOMPLETE: [400, "MANIFEST_BLOB_UNKNOWN"],
  KL_REGISTRY_MANIFEST_TOO_LARGE: [413, "SIZE_INVALID"],
  KL_REGISTRY_NOT_FOUND: [404, "UNSUPPORTED"],
  KL_REGISTRY_BAD_REQUEST: [400, "UNSUPPORTED"],
  KL_MIRROR_ADDRESS: [502, "UNSUPPORTED"],
  KL_MIRROR_BUSY: [503, "TOOMANYREQUESTS"],
  KL_MIRROR_CONFIG: [502, "UNSUPPORTED"],
  KL_MIRROR_DENIED: [502, "UNSUPPORTED"],
  KL_MIRROR_FETCHING: [503, "UNSUPPORTED"],
  KL_MIRROR_LOCAL: [409, "DENIED"],
  KL_MIRROR_NAME: [403, "DENIED"],
  KL_MIRROR_SECRET: [502, "UNSUPPORTED"],
  KL_MIRROR_TOO_LARGE: [502, "SIZE_INVALID"],
  KL_MIRROR_UNAVAILABLE: [503, "UNSUPPORTED"],
  KL_MIRROR_UNKNOWN: [404, "NAME_UNKNOWN"],
  KL_MIRROR_UPSTREAM: [502, "UNSUPPORTED"],
  KL_REGISTRY_STORAGE_FULL: [507, "UNSUPPORTED"],
  KL_REGISTRY_INTERNAL: [500, "UNSUPPORTED"],
};

/**
 * Of sockets, of the process, of a disk; of PostgreSQL (connection lost, shutting down, too many clients, read-only, its
 * disk), of SQLite (locked, its disk).
 */
const unreachable =
  /^(ECONN(REFUSED|RESET)|EPIPE|ETIMEDOUT|EMFILE|ENFILE|EIO|EROFS|UND_ERR_\w+|08\w{3}|57P0\d|53300|25006|58030|SQLITE_(BUSY|IOERR|READONLY|CANTOPEN)\w*)$/;

export function toHttpError(thrown: unknown): HttpError {
  const error = toKernlockError(thrown);
  const known = table[error.code];
  if (known !== undefined) return { status: known[0], oci: known[1], error };
  // Codes of other areas reach a client only when what it published was judged.
  if (/^KL_(BUNDLE|EXCEPTION|FEED|POLICY|VERDICT|TRUST)_/.test(error.code))
    return { status: 403, oci: "DENIED", error };
  return { status: 400, oci: "MANIFEST_INVALID", error };
}

function toKernlockError(thrown: unknown): KernlockError {
  if (thrown instanceof KernlockError) return thrown;
  const { code, statusCode } = thrown as { code?: unknown; statusCode?: unknown };
  if (code === "ENOSPC" || code === "SQLITE_FULL" || code === "EDQUOT" || code === "53100") {
    return new KernlockError("KL_REGISTRY_STORAGE_FULL", "The registry has no room left; nothing was stored.", {
      remedy: "Ask the registry's operator for more room, then try again.",
      cause: thrown,
    });
  }
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500) {
    return new KernlockError("KL_REGISTRY_BAD_REQUEST", "The request is malformed.", {
      remedy: "See docs/registry-api.md for what the registry takes.",
      cause: thrown,
    });
  }
  if (typeof code === "string" && unreachable.test(code)) {
    return new KernlockError(
      "KL_REGISTRY_NOT_READY",
      "The registry cannot reach its database or its blobs right now.",
      {
        remedy: "Try again in a moment.",
        cause: thrown,
      },
    );
  }
  return new KernlockError("KL_REGISTRY_INTERNAL", "The registry failed; what was asked did not happen.", {
    remedy: "Try again; if it stays, look for this request's id in the registry's log.",
    cause: thrown,
  });
}

/** The OCI error envelope. */
export function envelope(error: HttpError): string {
  const { code, message, remedy, details } = error.error;
  return JSON.stringify({
    errors: [{ code: error.oci, message, detail: { code, ...(remedy === undefined ? {} : { remedy }), ...details } }],
  });
}
