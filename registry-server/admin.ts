import { openCatalog } from "./store/catalog.ts";

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
