/** The OCI client, directory layout and documents that build, publish, fetch, mirror and air gap share. */
export {
  type BlobStreamOptions,
  type FetchedManifest,
  RegistryClient,
  type RegistryClientOptions,
} from "./client.ts";
export {
  type BundleManifest,
  bundleManifest,
  checkVariantManifest,
  type Descriptor,
  emptyConfigBlob,
  type KernelIndex,
  type KernelIndexFields,
  kernelIndex,
  maxManifestBytes,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
  type VariantManifest,
  variantManifest,
} from "./documents.ts";
export { type Credentials, HttpClient, type HttpClientOptions, readAll } from "./http.ts";
export { OciLayout } from "./layout.ts";
