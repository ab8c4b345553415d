import { spawn } from "node:child_process";
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import { isSupportedKey, type Signer } from "@kernlock/policies/trust";

/** A token that asks for a touch takes its time; one that hangs does not get for ever. */
const timeoutMs = 120_000;
const maxOutput = 64 << 10;

/**
 * Signs with a command (an HSM, a cloud's key service). `/bin/sh -c COMMAND` gets the bytes to sign on standard input,
 * and prints the signature as base64 on standard output: for ECDSA P-256 the DER form of a signature over SHA-256 of
 * those bytes, for Ed25519 the 64 bytes. What it prints on standard error is passed on. Whatever came is verified with
 * the public key before it is used.
 * Throws KL_KEY_MISSING, KL_KEY_UNREADABLE, KL_KEY_KIND (the public key), KL_KEY_COMMAND (the command).
 */
export function commandSigner(command: string, publicKeyFile: string): Signer {
  const publicKey = readPublicKey(publicKeyFile);
  const hash = publicKey.asymmetricKeyType === "ed25519" ? null : "sha256";
  return {
    publicKey,
    async sign(data) {
      const text = (await run(command, data)).trim();
      const signature = Buffer.from(text, "base64");
      if (signature.byteLength === 0 || signature.toString("base64") !== text.replaceAll(/\s/g, "")) {
        refuse("printed something else than base64");
      }
      if (!verify(hash, data, publicKey, signature)) refuse("gave a signature that the public key does not confirm");
      return signature;
    },
  };
}

function readPublicKey(path: string): KeyObject {
  const remedy = "Give the public half as SPKI PEM (BEGIN PUBLIC KEY), ECDSA P-256 or Ed25519.";
  let pem: string;
  try {
    pem = readFileSync(path, "utf8");
  } catch {
    return fail("KL_KEY_MISSING", `The public key ${path} cannot be read.`, { remedy });
  }
  let key: KeyObject;
  try {
    if (!pem.includes("BEGIN PUBLIC KEY")) throw new Error("not SPKI");
    key = createPublicKey(pem);
  } catch {
    return fail("KL_KEY_UNREADABLE", `${path} holds no public key.`, { remedy });
  }
  if (!isSupportedKey(key))
    fail("KL_KEY_KIND", `${path} holds a key that is neither ECDSA P-256 nor Ed25519.`, { remedy });
  return key;
}

function run(command: string, input: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const attempt = (what: string): void => {
      try {
        refuse(what);
      } catch (error) {
        reject(error);
      }
    };
    // A process group of its own, so that what the shell started ends with it.
    const child = spawn("/bin/sh", ["-c", command], { stdio: ["pipe", "pipe", "inherit"], detached: true });
    const stop = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    };
    const timer = setTimeout(stop, timeoutMs);
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (output.length > maxOutput) return;
      output += text;
      if (output.length > maxOutput) stop();
    });
    // A command that does not read its input all the same may sign; whether it did is seen by the signature.
    child.stdin.on("error", () => {});
    child.on("error", () => attempt("could not be started"));
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      if (output.length > maxOutput) attempt("printed more than a signature");
      else if (status === 0) resolve(output);
      else attempt(signal === null ? `ended with ${status}` : `was stopped by ${signal}`);
    });
    child.stdin.end(input);
  });
}

function refuse(what: string): never {
  return fail("KL_KEY_COMMAND", `The command that signs ${what}.`, {
    remedy:
      "It must read the bytes to sign from standard input and print the signature as base64 (docs/attestations.md).",
  });
}
