/**
 * The registry: an OCI distribution 1.1 server for signed kernel packages, with a JSON API and web pages.
 *
 * `createRegistry` opens a data folder and builds the server; `openAdmin` opens the same folder for namespaces and
 * tokens alone, also while a server runs on it. Errors are `KernlockError`s with `KL_REGISTRY_*` codes; over HTTP
 * they travel in the OCI envelope, `errors[0].detail.code` being the Kernlock code.
 */
export {
  type Admin,
  type Namespace,
  type NamespaceKind,
  openAdmin,
  type Role,
  roles,
  type TokenInfo,
  type TrustedPublisher,
  type Visibility,
} from "./admin.ts";
export type { FeedDescription, FiledRevocation } from "./advisories/notices.ts";
export type { MirrorOptions } from "./mirror/kit.ts";
export { covers as mirrorCovers, type Mirror, type MirrorSettings } from "./mirror/mirrors.ts";
export type { IssuerKind } from "./oidc/claims.ts";
export type { SignInIssuer } from "./oidc/code-flow.ts";
export { type BackupManifest, backUp, restore } from "./operations/backup.ts";
export type { Health } from "./operations/health.ts";
export { type Checked, type Collected, collectGarbage, type Damage, fsck, scrub } from "./operations/maintenance.ts";
export { type DataOptions, type Maintenance, openMaintenance } from "./operations/open.ts";
export type { FeedStatus, KeptException, Refreshed, TakenFeed } from "./publish/keeping.ts";
export { createRegistry, type Listening, type Registry, type RegistryOptions, serve } from "./server.ts";
export type { Account, People } from "./sessions/people.ts";
export type { Member } from "./store/records.ts";
