import { confineAddonPath, starterPath } from "../confine/index.ts";
import { handoverAddonPath } from "../handover/index.ts";
import { addonPath } from "../native/addon.ts";

/** Native code of the engine, each built where it is not built yet: what a portable folder must bring. @throws KL_ADDON_* */
export const nativePaths = (): string[] => [addonPath(), confineAddonPath(), handoverAddonPath(), starterPath()];
