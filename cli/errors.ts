import { KernlockError } from "@kernlock/kernels/format";

/** Exit codes of every command (docs/cli.md). */
export const exit = { done: 0, refused: 1, usage: 2, trustChanged: 3 } as const;

/** Wrong usage: exit code 2, never confused with a refusal. */
export function usage(message: string, remedy = "See `kernlock --help`."): never {
  throw new KernlockError("KL_CLI_USAGE", message, { remedy });
}

export function asKernlockError(error: unknown): KernlockError {
  if (error instanceof KernlockError) return error;
  // A bug of ours or of a library: its text may hold anything, so it is shown only with KERNLOCK_DEBUG.
  const name = error instanceof Error ? error.constructor.name : typeof error;
  const code = (error as { code?: unknown } | null)?.code;
  return new KernlockError(
    "KL_INTERNAL",
    `an unexpected ${name} stopped the command${typeof code === "string" ? ` (${code})` : ""}`,
    {
      remedy: "Set KERNLOCK_DEBUG=1 to see where, and report it.",
      cause: error,
    },
  );
}

export function exitCodeOf(error: KernlockError): number {
  return error.code === "KL_CLI_USAGE" ? exit.usage : exit.refused;
}
