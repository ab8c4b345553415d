import { randomBytes } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import { parsePolicy } from "@kernlock/policies/trust";
import { type Catalog, openCatalog } from "./store/catalog.ts";
import { hashToken, newToken } from "./tokens.ts";

export type Visibility = "public" | "private";
export type TokenScope = "read" | "write";

export interface Namespace {
  readonly name: string;
  readonly visibility: Visibility;
  /** Text of the trust policy, in the language of kernels.policy.yaml: what every publish here has to meet. */
  readonly policy: string;
  readonly createdAt: string;
}

export interface TokenInfo {
  /** Names the token in lists and logs; it is not a secret. */
  readonly id: string;
  readonly namespace: string;
  readonly scope: TokenScope;
  readonly label: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

/** What an operator does to a registry without going through HTTP. All methods are synchronous and durable. */
export interface Admin {
  /** Throws KL_REGISTRY_NAMESPACE_EXISTS, KL_REGISTRY_NAME_INVALID, or the policy parser's codes. */
  createNamespace(options: { name: string; visibility?: Visibility; policy: string }): Namespace;
  /** Replaces the trust policy. Versions that were published stay; later publishes meet the new one. */
  setPolicy(options: { namespace: string; policy: string }): Namespace;
  getNamespace(name: string): Namespace | undefined;
  listNamespaces(): Namespace[];
  /** The token itself is returned once and never stored. Throws KL_REGISTRY_NAMESPACE_UNKNOWN. */
  createToken(options: {
    namespace: string;
    scope: TokenScope;
    label?: string;
    expiresAt?: Date;
  }): TokenInfo & { token: string };
  listTokens(namespace: string): TokenInfo[];
  /** Takes effect with the next request. Returns whether there was such a token. */
  revokeToken(id: string): boolean;
  close(): void;
}

export function openAdmin(options: { dataFolder: string; now?: () => Date }): Admin {
  const catalog = openCatalog(options.dataFolder);
  return createAdmin(catalog, options.now ?? (() => new Date()));
}

/** Package and namespace segments, as in `namespace/name`. */
export const segmentPattern = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export function createAdmin(catalog: Catalog, now: () => Date): Admin {
  const known = (name: string) =>
    catalog.namespace(name) ??
    fail("KL_REGISTRY_NAMESPACE_UNKNOWN", `There is no namespace "${name}".`, {
      remedy: "Create it with `kernlock registry namespace`.",
      details: { namespace: name },
    });
  return {
    createNamespace({ name, visibility = "public", policy }) {
      if (!segmentPattern.test(name) || name.length > 64) {
        fail("KL_REGISTRY_NAME_INVALID", `"${name}" is not a namespace name.`, {
          remedy: "Use lower case letters and digits, with single dots, dashes or underscores between them.",
        });
      }
      parsePolicy(policy);
      if (!catalog.addNamespace({ name, visibility, policy, createdAt: now().toISOString() })) {
        fail("KL_REGISTRY_NAMESPACE_EXISTS", `The namespace "${name}" exists.`, { remedy: "Choose another name." });
      }
      return known(name);
    },
    setPolicy({ namespace, policy }) {
      known(namespace);
      parsePolicy(policy);
      catalog.setPolicy(namespace, policy);
      return known(namespace);
    },
    getNamespace: (name) => catalog.namespace(name),
    listNamespaces: () => catalog.namespaces(),
    createToken({ namespace, scope, label = "", expiresAt }) {
      known(namespace);
      const token = newToken();
      const info: TokenInfo = {
        id: randomBytes(6).toString("hex"),
        namespace,
        scope,
        label,
        createdAt: now().toISOString(),
        expiresAt: expiresAt?.toISOString() ?? null,
      };
      catalog.addToken(info, hashToken(token));
      return { ...info, token };
    },
    listTokens(namespace) {
      known(namespace);
      return catalog.tokens(namespace);
    },
    revokeToken: (id) => catalog.removeToken(id),
    close: () => catalog.close(),
  };
}
