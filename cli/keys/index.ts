import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign as signBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import { fingerprintOf, isSupportedKey, type Signer } from "@kernlock/policies/trust";

const remedy = "Give a PKCS#8 PEM (BEGIN PRIVATE KEY) of an ECDSA P-256 or Ed25519 key.";

/** A signer from a private key. `what` names the key's place in errors, which never hold the key itself. */
function signerFrom(pem: string, what: string): Signer {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    return fail("KL_KEY_UNREADABLE", `${what} holds no readable private key.`, { remedy });
  }
  if (!isSupportedKey(key))
    fail("KL_KEY_KIND", `${what} holds a key that is neither ECDSA P-256 nor Ed25519.`, { remedy });
  // Ed25519 takes the message itself; ECDSA takes SHA-256 of it.
  const hash = key.asymmetricKeyType === "ed25519" ? null : "sha256";
  return {
    publicKey: createPublicKey(key),
    sign: async (data) => signBytes(hash, data, key),
  };
}

/** Signs with a PKCS#8 PEM file. KL_KEY_MISSING, KL_KEY_UNREADABLE, KL_KEY_KIND. */
export function fileSigner(path: string): Signer {
  let pem: string;
  try {
    pem = readFileSync(path, "utf8");
  } catch {
    return fail("KL_KEY_MISSING", `The key file ${path} cannot be read.`, { remedy });
  }
  return signerFrom(pem, `The key file ${path}`);
}

/** Signs with a PKCS#8 PEM in an environment variable. The same codes as `fileSigner`. */
export function environmentSigner(name: string, environment: NodeJS.ProcessEnv = process.env): Signer {
  const pem = environment[name];
  if (!pem) return fail("KL_KEY_MISSING", `The environment variable ${name} is not set.`, { remedy });
  return signerFrom(pem, `The environment variable ${name}`);
}

/** A new key pair: PKCS#8 and SPKI PEM, and the fingerprint by which records name it. */
export function generateKeyPair(kind: "p256" | "ed25519" = "p256"): {
  privatePem: string;
  publicPem: string;
  fingerprint: string;
} {
  const { privateKey, publicKey } =
    kind === "p256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("ed25519");
  return {
    privatePem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    publicPem: publicKey.export({ type: "spki", format: "pem" }) as string,
    fingerprint: fingerprintOf(publicKey),
  };
}

export { commandSigner } from "./command.ts";
