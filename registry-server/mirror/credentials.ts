/** Who the registry is to its upstream: a token, or a user's name and password, and what they are exchanged for. */
import { readFileSync, statSync } from "node:fs";
import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { type Credentials, HttpClient, type HttpClientOptions } from "@kernlock/kernels/oci";
import { z } from "zod";
import { readBody } from "../body.ts";

const maxSecretBytes = 8192;
const maxTokenSeconds = 3600;
const maxTokens = 1000;
const tokenPattern = /^[A-Za-z0-9._~+/=-]{1,16384}$/;
const tokenAnswer = z.looseObject({
  token: z.string().regex(tokenPattern).optional(),
  access_token: z.string().regex(tokenPattern).optional(),
  expires_in: z.number().positive().optional(),
});

/** KL_MIRROR_SECRET when it cannot be had; its text never says what was read. */
export function readSecret(reference: string, environment = process.env): string {
  const [kind = "", where = ""] = split(reference, ":");
  const secret = (kind === "env" ? environment[where] : readSmall(where))?.trim() ?? "";
  // What has line breaks or other oddities in it would break the header it is put into.
  if (/^[\x21-\x7e]{1,8192}$/.test(secret)) return secret;
  return fail("KL_MIRROR_SECRET", `The mirror's credentials cannot be read from ${reference}.`, {
    remedy: "Put one line there: a token, or user:password.",
  });
}

function readSmall(path: string): string | undefined {
  try {
    const facts = statSync(path);
    return facts.isFile() && facts.size <= maxSecretBytes ? readFileSync(path, "utf8") : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Answers what the distribution specification lets a registry ask for: Basic, or a Bearer token from a token route.
 * The secret goes to the upstream itself and to a token route on a host that the operator named, and nowhere else; it
 * is read anew whenever it is needed.
 */
export function upstreamCredentials(
  reference: string | null,
  options: Omit<HttpClientOptions, "token" | "credentials"> & {
    /** Whether the secret may be sent to a token route there. */
    readonly mayAsk: (url: URL) => boolean;
  },
): Credentials {
  const secret = () => (reference === null ? undefined : readSecret(reference));
  const tokens = new Map<string, { value: string; until: number }>();
  let basic = false;

  return {
    authorization(url) {
      const token = tokens.get(repositoryIn(url));
      if (token !== undefined && token.until > performance.now()) return `Bearer ${token.value}`;
      const own = secret();
      if (own === undefined) return undefined;
      if (basic) return basicHeader(own);
      return own.includes(":") ? undefined : `Bearer ${own}`;
    },
    async answer(challenge, url) {
      const [scheme = "", rest = ""] = split(challenge.trim(), " ");
      const own = secret();
      if (scheme.toLowerCase() === "basic") {
        if (own === undefined || basic) return false;
        basic = true;
        return true;
      }
      if (scheme.toLowerCase() !== "bearer") return false;
      const { realm = "", service, scope } = challengeParameters(rest);
      if (!URL.canParse(realm) || !options.mayAsk(new URL(realm))) {
        return fail("KL_MIRROR_ADDRESS", "The upstream sends for a token to a host that the mirror does not name.", {
          remedy: "If the host is the upstream's, declare the mirror with --host.",
        });
      }
      const target = new URL(realm);
      if (service !== undefined) target.searchParams.set("service", service);
      target.searchParams.set("scope", scope ?? `repository:${repositoryIn(url)}:pull`);
      const token = await ask(target, own);
      // What it already had cannot be what was missing.
      if (token === undefined || token.value === own) return false;
      if (tokens.size >= maxTokens) tokens.clear();
      tokens.set(repositoryIn(url), token);
      return true;
    },
  };

  async function ask(target: URL, own: string | undefined): Promise<{ value: string; until: number } | undefined> {
    const { mayAsk: _, ...rest } = options;
    const http = new HttpClient({ ...rest, origin: target.origin, onRedirect: refuseRedirect });
    try {
      const answer = await http.send("GET", target, {
        headers: { accept: "application/json", ...(own === undefined ? {} : { authorization: basicHeader(own) }) },
        signal: AbortSignal.timeout(rest.timeoutMs ?? 30_000),
      });
      const body = await readBody(answer.body, 64 << 10);
      if (answer.status !== 200) return undefined;
      const parsed = tokenAnswer.safeParse(parseStrictJson(body, { what: "The token route's answer" }));
      const { token, access_token, expires_in = 60 } = parsed.data ?? {};
      const value = token ?? access_token;
      // A little before its end it counts as over.
      const seconds = Math.max(1, Math.min(expires_in, maxTokenSeconds) - 10);
      return value === undefined ? undefined : { value, until: performance.now() + seconds * 1000 };
    } finally {
      await http.close();
    }
  }
}

function refuseRedirect(): never {
  return fail("KL_MIRROR_ADDRESS", "The upstream's token route redirects, which is not followed.", {
    remedy: "Ask whoever runs the upstream.",
  });
}

function repositoryIn(url: URL): string {
  return /^\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(url.pathname)?.[1] ?? "";
}

function basicHeader(secret: string): string {
  const pair = secret.includes(":") ? secret : `kernlock:${secret}`;
  return `Basic ${Buffer.from(pair, "utf8").toString("base64")}`;
}

/** Of a `WWW-Authenticate` header, behind its scheme. */
export function challengeParameters(text: string): Record<string, string> {
  const found = text.slice(0, 4096).matchAll(/([a-z]+)="([^"\\]*)"/gi);
  return Object.fromEntries([...found].map(([, name, value]) => [name!.toLowerCase(), value!]));
}

function split(text: string, by: string): [string, string] {
  const at = text.indexOf(by);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
