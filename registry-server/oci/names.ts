import { fail, isPackageName } from "@kernlock/kernels/format";
import { type ContentDigest, isContentDigest } from "../store/digests.ts";

/** A repository is a package: exactly `namespace/name`. KL_REGISTRY_NAME_INVALID. */
export function repositoryOf(params: { namespace: string; name: string }): { repository: string; namespace: string } {
  const repository = `${params.namespace}/${params.name}`;
  if (!isPackageName(repository)) {
    fail("KL_REGISTRY_NAME_INVALID", "The repository is not a package name.", {
      remedy: "Use `namespace/name`: lower case letters and digits, with single dots, dashes or underscores inside.",
    });
  }
  return { repository, namespace: params.namespace };
}

/** KL_REGISTRY_DIGEST_INVALID. */
export function digestParameter(text: string): ContentDigest {
  if (isContentDigest(text)) return text;
  return fail("KL_REGISTRY_DIGEST_INVALID", "The digest is neither sha256 (64 hexadecimal digits) nor sha512 (128).", {
    remedy: "Give `sha256:` and the lower case hexadecimal digest of the bytes.",
  });
}

/** Whether `If-None-Match` names this entity. */
export function isUnchanged(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((part) => ["*", etag, `W/${etag}`].includes(part.trim()));
}

/** What a quarantined version reaches is withheld, by every way to it. */
export function quarantined(what: string): never {
  return fail("KL_REGISTRY_QUARANTINED", `${what} is in quarantine and is not handed out.`, {
    remedy: "Use another version; `kernlock info` says why.",
  });
}
