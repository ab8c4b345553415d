import { readFileSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import type { Command } from "commander";
import { Agent, type Dispatcher, request } from "undici";
import { command } from "../command.ts";
import { removeToken, storeToken } from "../credentials.ts";
import { usage } from "../errors.ts";
import { readText } from "./registry/files.ts";

interface LoginFlags {
  readonly tokenFile?: string;
  readonly exchange?: string;
  readonly ca?: string;
}

export function loginCommand(): Command {
  return command<LoginFlags>(
    "login <registry>",
    "check a token and store it where oras, cosign, crane and skopeo look for it too",
    (target) =>
      target
        .option("--token-file <file>", "file that holds the token (default: standard input)")
        .option(
          "--exchange <package>",
          "what is given is a CI job's identity token: get a token for this namespace/name",
        )
        .option("--ca <file>", "certificate authorities to trust (PEM), for private TLS"),
    async ({ output, options, args }) => {
      const origin = originOf(args[0] ?? "");
      if (options.tokenFile === undefined && process.stdin.isTTY) output.note("Paste the token, then press Ctrl-D.");
      const given = (options.tokenFile === undefined ? readFileSync(0, "utf8") : readText(options.tokenFile)).trim();
      if (given === "") usage("No token was given.");
      const dispatcher = new Agent({
        connect: options.ca === undefined ? {} : { ca: readText(options.ca) },
        headersTimeout: 30_000,
      });
      try {
        const token =
          options.exchange === undefined ? given : await exchange(dispatcher, origin, given, options.exchange);
        await send(dispatcher, `${origin}/v2/`, { headers: { authorization: `Bearer ${token}` } });
        const stored = storeToken(origin, token);
        output.result({ registry: origin, stored }, () => `logged in to ${origin} (stored in ${stored})\n`);
        return 0;
      } finally {
        await dispatcher.close();
      }
    },
  );
}

export function logoutCommand(): Command {
  return command(
    "logout <registry>",
    "forget the token that is stored for a registry",
    (target) => target,
    async ({ output, args }) => {
      const origin = originOf(args[0] ?? "");
      const removed = removeToken(origin);
      output.result({ registry: origin, removed }, () => (removed ? "logged out\n" : "there was no token\n"));
      return removed ? 0 : 1;
    },
  );
}

/** An origin, or a host, which means https. */
function originOf(text: string): string {
  const address = /^https?:\/\//.test(text) ? text : `https://${text}`;
  if (text === "" || !URL.canParse(address)) usage(`"${text}" is not a registry's address.`);
  return new URL(address).origin;
}

async function exchange(dispatcher: Dispatcher, origin: string, identity: string, name: string): Promise<string> {
  const answer = await send(dispatcher, `${origin}/token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: identity,
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      resource: name,
    }).toString(),
  });
  const { access_token: token } = answer as { access_token?: unknown };
  if (typeof token === "string") return token;
  return fail("KL_REGISTRY_ANSWER", "the registry's answer holds no token", { remedy: "Is it a Kernlock registry?" });
}

async function send(
  dispatcher: Dispatcher,
  url: string,
  options: { method?: "POST"; headers: Record<string, string>; body?: string },
): Promise<object> {
  const answer = await request(url, { dispatcher, ...options }).catch((error: Error & { code?: string }) =>
    fail(
      "KL_REGISTRY_UNREACHABLE",
      `the registry ${new URL(url).origin} does not answer (${error.code ?? error.name})`,
      {
        remedy: "Check the origin and that the registry runs.",
        cause: error,
      },
    ),
  );
  const text = await answer.body.text();
  let body: { errors?: { message?: string; detail?: { code?: string; remedy?: string } }[] } = {};
  try {
    body = JSON.parse(text);
  } catch {
    fail("KL_REGISTRY_ANSWER", "the registry answered with something that is not JSON", {
      remedy: "Check the origin.",
    });
  }
  if (answer.statusCode === 200) return body;
  const refused = body.errors?.[0];
  const code = refused?.detail?.code ?? "";
  return fail(
    /^KL_[A-Z0-9_]+$/.test(code) ? (code as `KL_${string}`) : "KL_REGISTRY_ANSWER",
    refused?.message ?? `the registry answered with status ${answer.statusCode}`,
    { remedy: refused?.detail?.remedy ?? "Check the origin and the token." },
  );
}
