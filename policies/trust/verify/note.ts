import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import { calls, checkCall } from "../border.ts";
import { refuse } from "./refusal.ts";

/** A signed note (C2SP signed-note): a text, and signatures by names over it. */
export interface SignedNote {
  /** With its final newline: what is signed. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

export interface NoteSignature {
  readonly name: string;
  /** The first four bytes of the key's id. */
  readonly hint: Buffer;
  readonly bytes: Buffer;
}

/** The text of a log's note (C2SP tlog-checkpoint). */
export interface Checkpoint {
  readonly origin: string;
  readonly size: bigint;
  readonly root: Buffer;
}

/** A witness cosigns checkpoints (C2SP tlog-cosignature v1, Ed25519). */
export interface WitnessKey {
  readonly name: string;
  readonly publicKey: KeyObject;
}

const limits = { bytes: 1 << 16, signatures: 64 };
const malformed = (what: string): never => refuse("KL_BUNDLE_CHECKPOINT", `The log's checkpoint ${what}.`);

export function parseNote(envelope: string): SignedNote {
  if (envelope.length > limits.bytes) malformed("is too long");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the specification forbids them
  if (/[\u0000-\u0009\u000b-\u001f]/.test(envelope) || !envelope.isWellFormed()) malformed("holds control characters");
  const parts = envelope.split("\n\n");
  // Readers differ on whether the first or the last empty line ends the text, so there may be only one.
  if (parts.length !== 2 || parts[0] === "") malformed("has no text, no signatures, or more than one empty line");
  const [text, block] = parts as [string, string];
  if (!block.endsWith("\n")) malformed("is cut short");
  const lines = block.slice(0, -1).split("\n");
  if (lines.length > limits.signatures) malformed("has too many signatures");
  return { text: `${text}\n`, signatures: lines.map(parseSignature) };
}

function parseSignature(line: string): NoteSignature {
  const [, name, encoded] =
    /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line) ?? malformed("has a malformed signature");
  const bytes = Buffer.from(encoded!, "base64");
  if (bytes.toString("base64") !== encoded || bytes.length < 5) malformed("has a malformed signature");
  return { name: name!, hint: bytes.subarray(0, 4), bytes: bytes.subarray(4) };
}

export function parseCheckpoint(note: SignedNote): Checkpoint {
  const [origin, size, root, ...rest] = note.text.slice(0, -1).split("\n");
  if (!origin || !/^(0|[1-9][0-9]{0,18})$/.test(size ?? "") || rest.includes("")) malformed("is malformed");
  const hash = Buffer.from(root ?? "", "base64");
  if (hash.length !== 32 || hash.toString("base64") !== root) malformed("has no root hash");
  return { origin: origin!, size: BigInt(size!), root: hash };
}

/**
 * Whether the log itself signed. Signatures by unknown names or keys are passed over, as the specification says; one
 * that claims to be by the log's key and is not spoils the note.
 */
export function isSignedBy(
  note: SignedNote,
  log: { names: readonly string[]; id: Buffer; publicKey: KeyObject },
): boolean {
  const claimed = note.signatures.filter(
    ({ name, hint }) => log.names.includes(name) && hint.equals(log.id.subarray(0, 4)),
  );
  const holds = (signature: NoteSignature) =>
    verify(hashFor(log.publicKey), Buffer.from(note.text), log.publicKey, signature.bytes);
  return claimed.length > 0 && claimed.every(holds);
}

/** The witnesses among `keys` whose cosignature holds. Each key counts once, under however many names it is listed. */
export function cosigners(note: SignedNote, keys: readonly WitnessKey[]): string[] {
  const found = new Map<string, string>();
  for (const key of keys) {
    const id = witnessKeyId(key);
    const signed = note.signatures.some(({ name, hint, bytes }) => {
      if (name !== key.name || !hint.equals(id) || bytes.length !== 72) return false;
      const message = `cosignature/v1\ntime ${bytes.readBigUInt64BE(0)}\n${note.text}`;
      return verify(null, Buffer.from(message), key.publicKey, bytes.subarray(8));
    });
    if (signed) found.set(rawEd25519(key.publicKey).toString("hex"), key.name);
  }
  return [...found.values()];
}

/**
 * A witness's key as C2SP writes it: `<name>+<hex of its id>+<base64 of 4 and the Ed25519 key>`.
 * KL_POLICY_KEY: it is not of this form, or the id is another key's.
 */
export function parseWitnessKey(text: string): WitnessKey {
  checkCall("parseWitnessKey", calls.text, { text });
  const [, name, id, encoded = ""] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/u.exec(text) ?? [];
  const bytes = Buffer.from(encoded, "base64");
  if (name !== undefined && bytes.length === 33 && bytes[0] === 4 && bytes.toString("base64") === encoded) {
    const jwk = { kty: "OKP", crv: "Ed25519", x: bytes.subarray(1).toString("base64url") };
    const key = { name, publicKey: createPublicKey({ key: jwk, format: "jwk" }) };
    if (witnessKeyId(key).toString("hex") === id) return key;
  }
  return fail("KL_POLICY_KEY", "A witness's key is not one.", {
    remedy: "Copy it from the witness's own page: <name>+<8 hex digits>+<base64>, of type 4.",
  });
}

/** The first four bytes of sha256(name, newline, 4, key), 4 being the type of timestamped Ed25519 cosignatures. */
export function witnessKeyId({ name, publicKey }: WitnessKey): Buffer {
  return createHash("sha256").update(`${name}\n\u0004`).update(rawEd25519(publicKey)).digest().subarray(0, 4);
}

export function rawEd25519(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url");
}

function hashFor(key: KeyObject): string | null {
  return key.asymmetricKeyType === "ed25519" ? null : "sha256";
}
