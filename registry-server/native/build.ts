/** `node registry-server/native/build.ts`: builds the addon where it is not built yet, and prints its path. */
import { transfersAddonPath } from "./addon.ts";

console.log(transfersAddonPath());
