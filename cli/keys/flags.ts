import { fail } from "@kernlock/kernels/format";
import type { Signer } from "@kernlock/policies/trust";
import type { Command } from "commander";
import { commandSigner } from "./command.ts";
import { environmentSigner, fileSigner } from "./index.ts";

export interface KeyFlags {
  readonly key?: string;
  readonly keyEnv?: string;
  readonly signCommand?: string;
  readonly publicKey?: string;
}

export function withKey(target: Command): Command {
  return target
    .option("--key <file>", "private key (PKCS#8 PEM, ECDSA P-256 or Ed25519)")
    .option("--key-env <name>", "environment variable that holds it")
    .option("--sign-command <command>", "command that signs: bytes on standard input, base64 on standard output")
    .option("--public-key <file>", "with --sign-command: the public key (SPKI PEM)");
}

/** The signer that the flags name. Exactly one way to sign; KL_CLI_USAGE otherwise. */
export function signerFrom({ key, keyEnv, signCommand, publicKey }: KeyFlags): Signer {
  const ways = [key, keyEnv, signCommand].filter((way) => way !== undefined).length;
  const usage = (message: string): never => fail("KL_CLI_USAGE", message, { remedy: "See `kernlock --help`." });
  if (ways !== 1) usage("Name exactly one of --key, --key-env and --sign-command.");
  if ((signCommand === undefined) !== (publicKey === undefined)) usage("--sign-command and --public-key go together.");
  if (key !== undefined) return fileSigner(key);
  if (keyEnv !== undefined) return environmentSigner(keyEnv);
  return commandSigner(signCommand ?? "", publicKey ?? "");
}
