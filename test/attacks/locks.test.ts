import { cacheAttacks } from "./cases/cache.ts";
import { downloadAttacks } from "./cases/download.ts";
import { lockAttacks } from "./cases/lock.ts";
import { runAttacks } from "./run.ts";

runAttacks("lock", lockAttacks);
runAttacks("cache and sealing", cacheAttacks);
runAttacks("a registry that lies to a client", downloadAttacks);
