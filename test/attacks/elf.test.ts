import { elfAttacks } from "./cases/elf.ts";
import { runAttacks } from "./run.ts";

runAttacks("machine code: ELF", elfAttacks);
