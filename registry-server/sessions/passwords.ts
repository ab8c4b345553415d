/** Passwords of accounts: scrypt, with its parameters beside the hash. */
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from "node:crypto";
import { fail } from "@kernlock/kernels/format";

/** 32 MiB and about a tenth of a second; three of them in a row for whoever guesses. */
const cost = { N: 2 ** 15, r: 8, p: 3 };
const keyBytes = 32;
const shortest = 12;
const longest = 256;

/** KL_REGISTRY_PASSWORD_WEAK for fewer than 12 or more than 256 characters. */
export function checkPassword(password: string): void {
  if (password.length < shortest || password.length > longest) {
    fail("KL_REGISTRY_PASSWORD_WEAK", `A password has ${shortest} to ${longest} characters.`, {
      remedy: "Take a few words that do not belong together, or let a password manager choose.",
    });
  }
}

export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, keyBytes, cost);
  return ["scrypt", cost.N, cost.r, cost.p, salt.toString("base64url"), key.toString("base64url")].join("$");
}

/** As long for an account that does not exist (`stored` null) as for one that does. */
export async function verifyPassword(password: string, stored: string | null): Promise<boolean> {
  const [, N, r, p, salt, key] = (stored ?? nobody).split("$");
  const wanted = Buffer.from(key!, "base64url");
  const parameters = { N: Number(N), r: Number(r), p: Number(p) };
  const found = await derive(password.slice(0, longest), Buffer.from(salt!, "base64url"), wanted.length, parameters);
  return timingSafeEqual(found, wanted) && stored !== null;
}

const nobody = ["scrypt", cost.N, cost.r, cost.p, "A".repeat(22), "A".repeat(43)].join("$");

let last: Promise<unknown> = Promise.resolve();

/** One at a time: many guesses at once would take 32 MiB each. */
function derive(password: string, salt: Buffer, length: number, options: ScryptOptions): Promise<Buffer> {
  const work = () =>
    new Promise<Buffer>((done, failed) =>
      scrypt(password.normalize("NFKC"), salt, length, { ...options, maxmem: 128 * 2 ** 20 }, (error, key) =>
        error === null ? done(key) : failed(error),
      ),
    );
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
}
