import { closeSync, openSync, writeSync } from "node:fs";
import type { Generated } from "@kernlock/engine";
import { fail } from "@kernlock/kernels/format";

/** Writes `logits_<i>` float32 [rows, vocab], i being the request's number; requests that failed have none. */
export function writeLogits(path: string, all: readonly (Generated["logits"] | null)[]): void {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  all.forEach((logits, i) => {
    if (logits === null) return;
    const end = offset + logits.data.byteLength;
    header[`logits_${i}`] = { dtype: "F32", shape: [logits.rows, logits.vocab], data_offsets: [offset, end] };
    offset = end;
  });
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  try {
    const file = openSync(path, "w");
    try {
      writeAll(file, length);
      writeAll(file, Buffer.from(text));
      for (const logits of all)
        if (logits !== null)
          writeAll(file, new Uint8Array(logits.data.buffer, logits.data.byteOffset, logits.data.byteLength));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    fail("KL_CLI_FILE", `cannot write ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Name a file in a folder that you may write to.",
      cause: error,
    });
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
