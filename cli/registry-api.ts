import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { HttpClient } from "@kernlock/kernels/oci";
import type { z } from "zod";
import { type RegistryFlags, readText, registryToken } from "./registry-access.ts";

const maxBytes = 8 << 20;

/** GET of the registry's JSON API, parsed and checked. */
export function apiGet<T>(origin: string, path: string, shape: z.ZodType<T>, flags: RegistryFlags): Promise<T> {
  return apiSend(origin, "GET", path, undefined, shape, flags);
}

/** The same for what changes something; bytes are sent as they are, everything else as JSON. */
export async function apiSend<T>(
  origin: string,
  method: "GET" | "POST" | "PUT",
  path: string,
  content: unknown,
  shape: z.ZodType<T>,
  flags: RegistryFlags,
): Promise<T> {
  const http = new HttpClient({
    origin,
    token: registryToken(flags, origin),
    ca: flags.ca === undefined ? undefined : readText(flags.ca),
    ...(flags.timeoutMs === undefined ? {} : { timeoutMs: flags.timeoutMs }),
  });
  try {
    const body =
      content === undefined || content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
    const answer = await http.send(method, path, {
      headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body }),
    });
    const json = parseStrictJson(await readLimited(answer.body), { what: "the registry's answer" });
    if (answer.status !== 200 && answer.status !== 201) refuse(answer.status, json);
    const parsed = shape.safeParse(json);
    return parsed.success
      ? parsed.data
      : fail("KL_REGISTRY_ANSWER", "the registry's answer is not of the expected shape", {
          remedy: "Is it a Kernlock registry of this version?",
        });
  } finally {
    await http.close();
  }
}

async function readLimited(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) fail("KL_REGISTRY_ANSWER", "the registry's answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function refuse(status: number, json: unknown): never {
  const first = (json as { errors?: { message?: unknown; detail?: { code?: unknown } }[] } | null)?.errors?.[0];
  const code =
    typeof first?.detail?.code === "string" && /^KL_[A-Z0-9_]+$/.test(first.detail.code)
      ? (first.detail.code as `KL_${string}`)
      : "KL_REGISTRY_ANSWER";
  fail(code, typeof first?.message === "string" ? first.message : `the registry answered with status ${status}`);
}
