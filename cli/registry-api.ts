import { readFileSync } from "node:fs";
import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { Agent, request } from "undici";
import type { z } from "zod";
import type { RegistryFlags } from "./registry-access.ts";

const maxBytes = 8 << 20;

/** GET of the registry's JSON API, parsed and checked. */
export async function apiGet<T>(origin: string, path: string, shape: z.ZodType<T>, flags: RegistryFlags): Promise<T> {
  const token =
    flags.tokenFile === undefined ? process.env.KERNLOCK_TOKEN : readFileSync(flags.tokenFile, "utf8").trim();
  const dispatcher = new Agent({
    connect: flags.ca === undefined ? {} : { ca: readFileSync(flags.ca, "utf8") },
    headersTimeout: 30_000,
  });
  try {
    const answer = await request(`${origin}${path}`, {
      dispatcher,
      headers: {
        accept: "application/json",
        ...(token === undefined || token === "" ? {} : { authorization: `Bearer ${token}` }),
      },
    }).catch((error: Error & { code?: string }) =>
      fail("KL_REGISTRY_UNREACHABLE", `the registry ${origin} does not answer (${error.code ?? error.name})`, {
        remedy: "Check the origin and that the registry runs.",
        cause: error,
      }),
    );
    const body = await readLimited(answer.body);
    const json = parseStrictJson(body, { what: "the registry's answer" });
    if (answer.statusCode !== 200) refuse(answer.statusCode, json);
    const parsed = shape.safeParse(json);
    return parsed.success
      ? parsed.data
      : fail("KL_REGISTRY_ANSWER", "the registry's answer is not of the expected shape", {
          remedy: "Is it a Kernlock registry of this version?",
        });
  } finally {
    await dispatcher.destroy();
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
