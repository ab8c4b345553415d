/** Which claims of an outside identity may stand for a publisher. Exact texts only; nothing here is a pattern. */
import { fail } from "@kernlock/kernels/format";

export type IssuerKind = "github" | "gitlab" | "generic";

export type Claims = Readonly<Record<string, unknown>>;

/** Names alone can be given up and taken by others; these numbers cannot. */
const required: Readonly<Record<IssuerKind, readonly string[]>> = {
  github: ["repository", "repository_id", "repository_owner_id"],
  gitlab: ["project_path", "project_id", "namespace_id"],
  generic: ["sub"],
};

/** Runs that carry code of people outside of the repository. */
const foreignEvents: Readonly<Record<IssuerKind, (claims: Claims) => boolean>> = {
  github: ({ event_name }) => typeof event_name !== "string" || /^pull_request/.test(event_name),
  gitlab: ({ pipeline_source }) =>
    typeof pipeline_source !== "string" || /^(merge_request_event|external_pull_request_event)$/.test(pipeline_source),
  generic: () => false,
};

/** Throws KL_REGISTRY_IDENTITY_CONFIG. */
export function checkPublisherClaims(kind: IssuerKind, issuer: string, claims: Readonly<Record<string, string>>): void {
  const refuse = (message: string, remedy: string): never => fail("KL_REGISTRY_IDENTITY_CONFIG", message, { remedy });
  if (!isIssuer(issuer)) refuse(`"${issuer}" is not an https address.`, "Give the issuer as it stands in its tokens.");
  for (const name of required[kind]) {
    if (claims[name] === undefined) refuse(`The claim "${name}" is needed for ${kind}.`, "Pin names and numbers both.");
  }
  for (const [name, value] of Object.entries(claims)) {
    if (value === "" || /[*?]/.test(value)) {
      refuse(
        `The claim "${name}" has no exact value.`,
        "Claims are compared letter by letter; wildcards are not taken.",
      );
    }
  }
}

/** https, or http on this very machine. */
export function isIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return (
    url.protocol === "https:" || (url.protocol === "http:" && /^(127\.0\.0\.1|localhost|\[::1\])$/.test(url.hostname))
  );
}

export function matches(kind: IssuerKind, wanted: Readonly<Record<string, string>>, claims: Claims): boolean {
  if (foreignEvents[kind](claims)) return false;
  return Object.entries(wanted).every(([name, value]) => Object.hasOwn(claims, name) && claims[name] === value);
}
