/** Builds of our own native addons, apart from `build/` so that a host process need not load the package builder. */
export { type AddonOptions, buildAddon } from "../build/addon.ts";
