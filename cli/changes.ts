import type { Change } from "@kernlock/loader";

/** The differences of two locks in words: what a reviewer has to decide first, then what merely moved. */
export function changesText(changes: readonly Change[]): string {
  const trust = changes.filter((change) => change.trust);
  const rest = changes.filter((change) => !change.trust);
  return [
    ...(trust.length === 0 ? [] : ["Trust changed. Somebody has to agree to each of these:\n"]),
    ...trust.map((change) => `  ! ${words(change)}\n`),
    ...(rest.length === 0 ? [] : ["Versions and contents:\n"]),
    ...rest.map((change) => `    ${words(change)}\n`),
  ].join("");
}

function words(change: Change): string {
  const { kernel, what, before, after } = change;
  const name = kernel ?? "The lock";
  const from = `${text(before)} to ${text(after)}`;
  switch (what) {
    case "added":
      return `${name} ${text(after)} is new`;
    case "removed":
      return `${name} ${text(before)} is gone`;
    case "version":
      return `${name}: version ${from}`;
    case "content":
      return kernel === null
        ? "The lock: locking again gives another lock"
        : `${name}: other bytes under the same version, ${from}`;
    case "signers":
      return `${name}: ${members(before, after, "publisher")}`;
    case "auditors":
      return `${name}: ${members(before, after, "voucher")}`;
    case "builder":
      return before === null
        ? `${name}: built by ${text(after)}, by whom nothing was locked before`
        : `${name}: builder ${from}`;
    case "source":
      return before === null
        ? `${name}: built from ${text(after)}, of which nothing was locked before`
        : `${name}: source ${from}`;
    case "variants":
      return `${name}: ${members(before, after, "variant")}`;
    case "registry":
      return `${name}: registry ${from}`;
    case "policy":
      return `${name}: made under another policy, ${from}; read the policy's own changes`;
    case "advisories":
      return change.trust
        ? `${name}: a feed of advisories went back or is gone, ${from}`
        : `${name}: newer advisories, ${from}`;
    case "model":
      return `${name}: ${model(before, after)}`;
  }
}

function members(before: unknown, after: unknown, what: string): string {
  const [old, young] = [list(before), list(after)];
  const added = young.filter((item) => !old.includes(item));
  const removed = old.filter((item) => !young.includes(item));
  return [...added.map((item) => `new ${what} ${item}`), ...removed.map((item) => `${what} ${item} no longer`)].join(
    ", ",
  );
}

interface Model {
  readonly name: string;
  readonly files: readonly { readonly path: string; readonly digest: string }[];
}

function model(before: unknown, after: unknown): string {
  const [old, young] = [before as Model | null, after as Model | null];
  if (young === null) return `the model ${old?.name} is no longer pinned`;
  if (old === null) return `the model ${young.name} is pinned, ${young.files.length} files`;
  const digests = new Map(old.files.map(({ path, digest }) => [path, digest]));
  const changed = young.files.filter(({ path, digest }) => digests.get(path) !== digest).map(({ path }) => path);
  const gone = old.files.filter(({ path }) => !young.files.some((file) => file.path === path)).map(({ path }) => path);
  const parts = [
    ...(old.name === young.name ? [] : [`the model is ${young.name} instead of ${old.name}`]),
    ...(changed.length === 0 ? [] : [`other or new model files: ${changed.join(", ")}`]),
    ...(gone.length === 0 ? [] : [`model files gone: ${gone.join(", ")}`]),
  ];
  return parts.join("; ");
}

const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function text(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "string") return value;
  const { repository, revision } = value as { repository?: string; revision?: string };
  return repository !== undefined && revision !== undefined ? `${repository} at ${revision}` : JSON.stringify(value);
}
