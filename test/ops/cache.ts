export { type Cache, fillCache } from "../../engine/host/selftest/cache.ts";
