import { fail } from "@kernlock/kernels/format";

/** A small body of a request. KL_REGISTRY_BAD_REQUEST when it is larger than `limit` bytes. */
export async function readBody(source: AsyncIterable<Uint8Array>, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.byteLength;
    if (size > limit) fail("KL_REGISTRY_BAD_REQUEST", "The request's body is too large.", { remedy: "Send less." });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
