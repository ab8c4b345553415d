/** What `buildDefinition` means; described in docs/build.md. */
export const buildType = "https://kernlock.dev/build/package/v1";
export type Scope = "index" | "variant";
