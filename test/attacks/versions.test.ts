import { nameAttacks, versionAttacks } from "./cases/versions.ts";
import { runAttacks } from "./run.ts";

runAttacks("paths, names and counts", nameAttacks);
runAttacks("documents of a version", versionAttacks);
