import { evidenceAttacks } from "./cases/evidence.ts";
import { runAttacks } from "./run.ts";

runAttacks("signatures and attestations", evidenceAttacks);
