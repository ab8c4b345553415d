/**
 * The registry: an OCI distribution 1.1 server for signed kernel packages, with a JSON API and web pages.
 *
 * `createRegistry` opens a data folder and builds the server; `openAdmin` opens the same folder for namespaces and
 * tokens alone, also while a server runs on it. Errors are `KernlockError`s with `KL_REGISTRY_*` codes; over HTTP
 * they travel in the OCI envelope, `errors[0].detail.code` being the Kernlock code.
 */
export { type Admin, type Namespace, openAdmin, type TokenInfo, type TokenScope, type Visibility } from "./admin.ts";
export { createRegistry, type Listening, type Registry, type RegistryOptions, serve } from "./server.ts";
