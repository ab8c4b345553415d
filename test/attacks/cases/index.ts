import type { Attack } from "../attack.ts";
import { cacheAttacks } from "./cache.ts";
import { deviceAttacks } from "./device.ts";
import { downloadAttacks } from "./download.ts";
import { elfAttacks } from "./elf.ts";
import { evidenceAttacks } from "./evidence.ts";
import { identityAttacks } from "./identity.ts";
import { lockAttacks } from "./lock.ts";
import { policyAttacks } from "./policy.ts";
import { uploadAttacks } from "./upload.ts";
import { nameAttacks, versionAttacks } from "./versions.ts";

export const attacks: readonly Attack[] = [
  ...nameAttacks,
  ...evidenceAttacks,
  ...identityAttacks,
  ...policyAttacks,
  ...versionAttacks,
  ...lockAttacks,
  ...cacheAttacks,
  ...downloadAttacks,
  ...elfAttacks,
  ...deviceAttacks,
  ...uploadAttacks,
];

/** Attacks whose test is not a refusal of one thing: where it stands, and what it shows. */
export const shownElsewhere: readonly (readonly [number: number, name: string, shown: string])[] = [
  [
    82,
    "two publishes of one version at once",
    "`test/attacks/upload.test.ts`: exactly one wins, the others get KL_REGISTRY_VERSION_EXISTS",
  ],
  [52, "a pattern that means everything", "`kernlock policy lint`: KL_LINT_WILDCARD"],
  [43, "one timestamp twice, where two are demanded", "`policies/trust/test/identity.test.ts`: KL_BUNDLE_TIME"],
  [
    47,
    "a checkpoint without the witnesses that are demanded",
    "`policies/trust/test/gaps/g08-checkpoints.test.ts`: KL_BUNDLE_WITNESSES",
  ],
  [
    61,
    "a key under a wrong kind",
    "`policies/trust/test/gaps/g06-trusted-roots.test.ts`: KL_ROOT_KEY; a bundle does not say what kind its key is",
  ],
  [93, "a swap between sealing and hashing", "`loader/test/load.test.ts`: what was sealed is what runs"],
  [
    94,
    "a descriptor's number used again",
    "`engine/native`: the mapped library is compared with the descriptor, KL_LOAD_IDENTITY",
  ],
  [95, "a loaded library overwritten in place", "`loader/test/load.test.ts`: a sealed file cannot be written (EPERM)"],
  [99, "LD_PRELOAD, LD_LIBRARY_PATH, LD_AUDIT", "`engine/client`: the host's environment is an allow list"],
  [
    109,
    "the same kernel with another digest in one process",
    "one host loads one lock; names in it are unique (KL_JSON_DUPLICATE_KEY)",
  ],
  [111, "no memory files on this system", "KL_SEAL_UNAVAILABLE; there is no other way to load"],
  [112, "a library that is loaded to see what it is", "nothing is opened before its bytes were inspected"],
];

/** Of the research's list: what has no test yet, because what it attacks is not there yet. */
export const open: readonly (readonly [numbers: string, what: string])[] = [
  ["48", "a split view of the log"],
  [
    "63-69",
    "freshness of the registry's index: rollback, freeze, mix and match, a fresh client, roots, endless answers",
  ],
  ["71", "versions that were yanked"],
  [
    "86-90, 92",
    "registry server: key rotation, takeover after deletion, a log that fails, a database edited by hand, poisoned caches, audits of unknown digests",
  ],
];

/** Attacks on archives: packages are one blob a file, and nothing that is locked or loaded is ever unpacked. */
export const noArchives = "12-15, 17, 21-23";
