import { createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { parseStrictJson } from "@kernlock/kernels/format";
import type { LogEntry } from "./bundle.ts";
import { cosigners, isSignedBy, parseCheckpoint, parseNote } from "./note.ts";
import { refuse } from "./refusal.ts";
import type { RootLog, TrustedRoot } from "./root.ts";
import { contains } from "./time.ts";
import type { LoggedEntry, ProofDemand, TrustedTime } from "./types.ts";

/**
 * What the library leaves open about log entries, whose inclusion and contents it has verified: the window of the log's
 * key (G7), who signed the checkpoint (G8), fields that nobody authenticates (G10), and that the entry is about this
 * signer. Returns the entries; KL_BUNDLE_LOG_UNKNOWN, _LOG_WINDOW, _CHECKPOINT, _WITNESSES, _UNBOUND, _LOG, _LOG_MISSING.
 */
export function checkLogs(request: {
  readonly entries: readonly LogEntry[];
  readonly root: TrustedRoot;
  readonly times: readonly TrustedTime[];
  readonly now: Date;
  readonly demand: ProofDemand;
  readonly key: KeyObject;
  readonly certificate: Buffer | undefined;
}): LoggedEntry[] {
  const { entries, root, times, now, demand } = request;
  const logged = entries.map((entry) => {
    const log = findLog(entry, root);
    const [name = ""] = log.names;
    // Without a proved time the entry might have been made at any time up to now, so now has to be inside.
    const moments = times.length > 0 ? times.map(({ time }) => time) : [now];
    if (!moments.every((time) => contains(log.window, time))) {
      refuse("KL_BUNDLE_LOG_WINDOW", `The key of the log ${name} does not count at that time.`, { log: name });
    }
    checkProof(entry, log, demand);
    checkSigner(entry, request);
    return { log: name, index: entry.proof?.logIndex ?? entry.logIndex };
  });
  const distinct = new Set(entries.map(({ logId }) => logId.toString("hex"))).size;
  // Witnesses sign what a log says, so who demands them demands an entry.
  const demanded = Math.max(demand.logEntries ?? 0, demand.witnesses ? 1 : 0);
  if (distinct < demanded) {
    refuse("KL_BUNDLE_LOG_MISSING", `The bundle is in ${distinct} logs; ${demanded} are demanded.`, {
      found: distinct,
      demanded,
    });
  }
  return logged;
}

/** By the id in the entry, which the library compares with what was signed. KL_BUNDLE_LOG_UNKNOWN. */
export function findLog({ logId }: LogEntry, root: TrustedRoot): RootLog {
  const log = root.logs.find(({ id }) => id.equals(logId));
  return (
    log ?? refuse("KL_BUNDLE_LOG_UNKNOWN", "The bundle has an entry of a log that the trusted root does not name.")
  );
}

function checkProof(entry: LogEntry, log: RootLog, demand: ProofDemand): void {
  const { proof } = entry;
  const [name = ""] = log.names;
  const unbound = (what: string) => refuse("KL_BUNDLE_UNBOUND", `The log entry's ${what}.`, { log: name });
  if (!entry.promised && entry.integratedTime !== 0) unbound("time is signed by nobody");
  if (proof === undefined || proof.checkpoint === "") {
    if (demand.witnesses) refuse("KL_BUNDLE_WITNESSES", "The bundle's log entry has no checkpoint.");
    // Only old bundles may rest on the log's promise alone, which the library verified.
    if (proof !== undefined || !entry.promised) refuse("KL_BUNDLE_CHECKPOINT", "The log entry has no checkpoint.");
    return;
  }
  const note = parseNote(proof.checkpoint);
  const checkpoint = parseCheckpoint(note);
  // Rekor v1 signs with the log's name and puts the number of the tree behind it in the first line.
  if (!log.names.includes(checkpoint.origin.replace(/ - [0-9]+$/, ""))) {
    refuse("KL_BUNDLE_CHECKPOINT", `The checkpoint is not one of the log ${name}.`, { log: name });
  }
  if (!isSignedBy(note, log)) refuse("KL_BUNDLE_CHECKPOINT", "The log has not signed its checkpoint.", { log: name });
  if (checkpoint.size !== proof.treeSize) unbound("tree size is not that of its checkpoint");
  if (!checkpoint.root.equals(proof.rootHash)) unbound("root hash is not that of its checkpoint");
  // A promise signs the outer index, which counts over all trees of a Rekor v1; else only the proof's is authenticated.
  if (!entry.promised && entry.logIndex !== proof.logIndex) unbound("index is not that of its proof");
  if (demand.witnesses) {
    const found = cosigners(note, demand.witnesses.keys);
    const { threshold } = demand.witnesses;
    if (found.length < threshold) {
      refuse("KL_BUNDLE_WITNESSES", `${found.length} witnesses signed the checkpoint; ${threshold} are demanded.`, {
        found,
        demanded: threshold,
      });
    }
  }
}

/** The library compares signature and digest; the key in the entry must be the signer's too. */
function checkSigner(entry: LogEntry, { key, certificate }: { key: KeyObject; certificate: Buffer | undefined }): void {
  const spki = key.export({ type: "spki", format: "der" });
  const signers = signersOf(entry);
  const same =
    signers.length > 0 && signers.every((der) => der.equals(spki) || (certificate && der.equals(certificate)));
  if (!same) refuse("KL_BUNDLE_LOG", "The log entry is about another signer.");
}

type Json = Readonly<Record<string, unknown>> | readonly unknown[] | undefined;

/** DER of the certificates or keys of an entry. Its body is authenticated by the log, but anybody could have sent it. */
function signersOf({ kind, version, body }: LogEntry): Buffer[] {
  const json = parseStrictJson(body, { what: "log entry", maxDepth: 16 });
  const at = (path: string, from: unknown = json): unknown =>
    path.split(".").reduce<unknown>((value, key) => {
      const object = value as Json;
      return object !== undefined && object !== null && Object.hasOwn(object, key) ? (object as never)[key] : undefined;
    }, from);
  const list = (path: string) => (Array.isArray(at(path)) ? (at(path) as unknown[]) : []);
  switch (`${kind} ${version}`) {
    case "hashedrekord 0.0.1":
      return [fromPem(at("spec.signature.publicKey.content"))];
    case "dsse 0.0.1":
      return list("spec.signatures").map((signature) => fromPem(at("verifier", signature)));
    case "intoto 0.0.2":
      return list("spec.content.envelope.signatures").map((signature) => fromPem(at("publicKey", signature)));
    case "hashedrekord 0.0.2":
      return [fromVerifier(at("spec.hashedRekordV002.signature.verifier"))];
    case "dsse 0.0.2":
      return list("spec.dsseV002.signatures").map((signature) => fromVerifier(at("verifier", signature)));
    default:
      return refuse("KL_BUNDLE_LOG", "The log entry is of a kind that is not known.");
  }

  function fromVerifier(verifier: unknown): Buffer {
    const raw = at("x509Certificate.rawBytes", verifier) ?? at("publicKey.rawBytes", verifier);
    return Buffer.from(String(raw ?? ""), "base64");
  }
}

function fromPem(encoded: unknown): Buffer {
  const pem = Buffer.from(String(encoded ?? ""), "base64").toString("latin1");
  return pem.startsWith("-----BEGIN CERTIFICATE-----")
    ? new X509Certificate(pem).raw
    : createPublicKey(pem).export({ type: "spki", format: "der" });
}
