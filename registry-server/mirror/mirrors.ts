/** What a mirror is: names of this registry whose content comes from another one. */
import { fail } from "@kernlock/kernels/format";
import { z } from "zod";

export interface Mirror {
  readonly id: string;
  readonly namespace: string;
  /** Of repositories here: `acme/norm`, or with a star at the end `acme/up-*`, `acme/*`. */
  readonly pattern: string;
  /** Of the upstream, e.g. `https://kernels.example.org`. */
  readonly origin: string;
  /** Takes the place of `namespace/` in the upstream's name of a repository. */
  readonly prefix: string;
  readonly settings: MirrorSettings;
  readonly createdAt: string;
}

const hostPattern = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;
/** Nothing else of the server's environment is ever sent anywhere. */
const secretPattern = /^(?:env:KERNLOCK_UPSTREAM_[A-Z0-9_]{1,64}|file:\/.{1,1000})$/;

const settingsShape = z.strictObject({
  /** `env:KERNLOCK_UPSTREAM_…` or `file:/…`: where `user:password` or a token stands. */
  credentials: z.string().regex(secretPattern, "is neither env:KERNLOCK_UPSTREAM_… nor file:/…").nullable(),
  /** File of certificate authorities (PEM) to trust in place of the system's. */
  ca: z
    .string()
    .regex(/^\/.{1,1000}$/, "is not the full path of a file")
    .nullable(),
  /** Hosts, with port where it is not the usual one, to which the upstream may redirect or send for a token. */
  hosts: z.array(z.string().regex(hostPattern, "is not a host")).max(20),
  /** Whether names may lead to addresses of private networks. */
  privateAddresses: z.boolean(),
  /** Days that a version must have existed, by a clock that the policy trusts; 0: only what the policy demands. */
  coolDownDays: z.number().int().nonnegative().max(3650),
  /** How long an answer about what can change (tags, referrers, states) counts. */
  freshSeconds: z.number().int().min(1).max(604_800),
});
export type MirrorSettings = z.infer<typeof settingsShape>;

export const defaultSettings: MirrorSettings = {
  credentials: null,
  ca: null,
  hosts: [],
  privateAddresses: false,
  coolDownDays: 0,
  freshSeconds: 300,
};

const namePart = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const upstreamName = new RegExp(`^${namePart}(?:/${namePart})*$`);
const patternShape =
  /^([a-z0-9]+(?:[._-][a-z0-9]+)*)\/([a-z0-9]+(?:[._-][a-z0-9]+)*[._-]?\*|\*|[a-z0-9]+(?:[._-][a-z0-9]+)*)$/;

/** KL_MIRROR_CONFIG for a declaration that cannot be meant. */
export function checkMirror(given: {
  readonly pattern: string;
  readonly origin: string;
  readonly prefix?: string;
  readonly settings?: Partial<MirrorSettings>;
}): Pick<Mirror, "namespace" | "pattern" | "origin" | "prefix" | "settings"> {
  const namespace = patternShape.exec(given.pattern)?.[1];
  if (namespace === undefined || given.pattern.length > 128) {
    return refuse(
      `"${given.pattern}" is no pattern of names.`,
      "Write namespace/name, namespace/begin* or namespace/*.",
    );
  }
  const url = URL.canParse(given.origin) ? new URL(given.origin) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
    return refuse("The upstream's address is not of the form https://host[:port].", "Credentials go into a file.");
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    return refuse("The upstream's address has something after host and port.", "Folders belong into the prefix.");
  }
  const prefix = given.prefix ?? `${namespace}/`;
  if (prefix !== "" && (!prefix.endsWith("/") || !upstreamName.test(prefix.slice(0, -1)) || prefix.length > 200)) {
    return refuse(
      `"${prefix}" is no prefix of repositories.`,
      'Write folders with a slash at the end, or "" for none.',
    );
  }
  const settings = settingsShape.safeParse({ ...defaultSettings, ...given.settings });
  if (!settings.success) {
    const issue = settings.error.issues[0]!;
    return refuse(`The mirror's ${issue.path.join(".")} ${issue.message}.`, "See `kernlock registry mirror --help`.");
  }
  if (url.protocol === "http:" && settings.data.credentials !== null && !isLoopback(url.hostname)) {
    refuse(`Credentials would travel to ${url.origin} in clear text.`, "Use an https address.");
  }
  return { namespace, pattern: given.pattern, origin: url.origin, prefix, settings: settings.data };
}

/** What is stored of the settings, back as it was checked. */
export function readSettings(text: string): MirrorSettings {
  return settingsShape.parse(JSON.parse(text));
}

export function covers(pattern: string, repository: string): boolean {
  return pattern.endsWith("*") ? repository.startsWith(pattern.slice(0, -1)) : repository === pattern;
}

/** Whether some name could fall under both. */
export function overlap(one: string, other: string): boolean {
  const [a, b] = [one.replace(/\*$/, ""), other.replace(/\*$/, "")];
  if (one.endsWith("*") && other.endsWith("*")) return a.startsWith(b) || b.startsWith(a);
  return covers(one, other) || covers(other, one);
}

/** The upstream's name of a repository here. */
export function upstreamRepository({ namespace, prefix }: Pick<Mirror, "namespace" | "prefix">, repository: string) {
  return `${prefix}${repository.slice(namespace.length + 1)}`;
}

/** The name here of a repository of the upstream, or undefined for one that the mirror is not about. */
export function localRepository({ namespace, prefix, pattern }: Mirror, upstream: string): string | undefined {
  if (!upstream.startsWith(prefix)) return undefined;
  const repository = `${namespace}/${upstream.slice(prefix.length)}`;
  return covers(pattern, repository) ? repository : undefined;
}

/** As in the audit log, and in place of a token's id. */
export const actorOf = (mirror: Pick<Mirror, "id">): string => `mirror:${mirror.id}`;

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.[0-9.]+$/.test(host);
}

function refuse(message: string, remedy: string): never {
  return fail("KL_MIRROR_CONFIG", message, { remedy });
}
