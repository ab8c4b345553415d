/**
 * Tokens: `klr_`, 33 base62 characters that carry 192 random bits, 6 characters of checksum. The checksum lets a server
 * (or a secret scanner) tell a mistyped token from an unknown one without a look-up. Only the sha256 is stored: with
 * 192 random bits there is nothing a slow hash would protect.
 */
import { createHash, randomBytes } from "node:crypto";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const pattern = /^klr_([0-9A-Za-z]{33})([0-9A-Za-z]{6})$/;

/** What the token route hands to clients without credentials; it grants what anonymous readers may do anyway. */
export const anonymousToken = "klr_anonymous";

export function newToken(): string {
  const body = base62(randomBytes(24), 33);
  return `klr_${body}${checksum(body)}`;
}

export function isWellFormedToken(token: string): boolean {
  const match = pattern.exec(token);
  return match !== null && checksum(match[1]!) === match[2];
}

export function hashToken(token: string): Buffer {
  return createHash("sha256").update(token, "utf8").digest();
}

function checksum(body: string): string {
  return base62(createHash("sha256").update(`klr_${body}`, "utf8").digest().subarray(0, 4), 6);
}

function base62(bytes: Uint8Array, length: number): string {
  let value = BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  let text = "";
  for (; value > 0n; value /= 62n) text = alphabet[Number(value % 62n)] + text;
  return text.padStart(length, "0");
}
