/** People for tests: a browser's worth of cookies, and a real little OpenID Connect issuer on a loopback port. */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { SignInIssuer } from "../oidc/code-flow.ts";

export interface Visitor {
  readonly cookies: Map<string, string>;
  /** Every `set-cookie` line so far. */
  readonly lines: string[];
  get(path: string): Promise<Response>;
  /** Sends the form of the page `from` that goes to `action`, with its hidden fields and these. */
  send(from: string, action: string, fields: Record<string, string>): Promise<Response>;
  post(path: string, fields: Record<string, string>, headers?: Record<string, string>): Promise<Response>;
}

/** Keeps cookies, follows nothing. */
export function visitor(origin: string): Visitor {
  const cookies = new Map<string, string>();
  const lines: string[] = [];
  const ask = async (path: string, init: RequestInit = {}) => {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = { ...(cookie === "" ? {} : { cookie }), ...(init.headers as Record<string, string>) };
    const answer = await fetch(new URL(path, origin), { redirect: "manual", ...init, headers });
    for (const line of answer.headers.getSetCookie()) {
      lines.push(line);
      const [pair = ""] = line.split(";");
      const at = pair.indexOf("=");
      if (/Max-Age=0/.test(line)) cookies.delete(pair.slice(0, at));
      else cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return answer;
  };
  const post = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
    ask(path, { method: "POST", body: new URLSearchParams(fields), headers });
  return {
    cookies,
    lines,
    get: (path) => ask(path),
    post,
    async send(from, action, fields) {
      const text = await (await ask(from)).text();
      return post(action, { ...hiddenFields(text, action), ...fields }, { origin });
    },
  };
}

/** Of the first form that is sent to `action`. */
export function hiddenFields(page: string, action: string): Record<string, string> {
  const form = page.split("<form ").find((part) => part.includes(`action="${action}"`)) ?? "";
  const inner = form.split("</form>")[0]!;
  const found = inner.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)">/g);
  return Object.fromEntries([...found].map(([, name, value]) => [name!, value!]));
}

export interface LittleIssuer {
  readonly url: string;
  readonly signIn: SignInIssuer;
  /** Claims of whoever signs in next. */
  claims: Record<string, unknown>;
  /** Changes what it answers, to be refused. */
  change: {
    /** Parameters of its answer to the browser; undefined takes one away. */
    answer?: Record<string, string | undefined>;
    idToken?: (claims: Record<string, unknown>) => string;
    /** Fields of its answer to the registry. */
    token?: Record<string, unknown>;
    facts?: Record<string, unknown>;
  };
  /** Requests at its token endpoint. */
  readonly redeemed: { readonly authorization: string | undefined; readonly form: Record<string, string> }[];
  key: KeyObject;
  now: () => Date;
  jwt(claims: object, options?: { key?: KeyObject; header?: object }): string;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });

/** Asks nobody for a password: whoever comes is `claims`. Codes are good once, and bound to PKCE and redirect address. */
export async function startIssuer(
  options: { secret?: string; now?: () => Date; name?: string } = {},
): Promise<LittleIssuer> {
  const codes = new Map<string, URLSearchParams>();
  const server = createServer(async (request, response) => {
    const url = new URL(request.url!, issuer.url);
    const json = (status: number, value: unknown) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(200, {
          issuer: issuer.url,
          jwks_uri: `${issuer.url}/keys`,
          authorization_endpoint: `${issuer.url}/authorize`,
          token_endpoint: `${issuer.url}/token`,
          authorization_response_iss_parameter_supported: true,
          ...issuer.change.facts,
        });
      case "/keys":
        return json(200, { keys: [{ ...pair.publicKey.export({ format: "jwk" }), kid: "one", use: "sig" }] });
      case "/authorize": {
        const asked = url.searchParams;
        const code = `code-${codes.size}`;
        codes.set(code, asked);
        const back = new URL(asked.get("redirect_uri")!);
        const answer = { code, state: asked.get("state")!, iss: issuer.url, ...issuer.change.answer };
        for (const [name, value] of Object.entries(answer)) if (value !== undefined) back.searchParams.set(name, value);
        return response.writeHead(302, { location: back.href }).end();
      }
      case "/token": {
        let body = "";
        for await (const chunk of request) body += chunk;
        const form = Object.fromEntries(new URLSearchParams(body));
        issuer.redeemed.push({ authorization: request.headers.authorization, form });
        const asked = codes.get(form.code ?? "");
        codes.delete(form.code ?? "");
        const challenge = createHash("sha256")
          .update(form.code_verifier ?? "")
          .digest("base64url");
        const right =
          asked !== undefined &&
          form.grant_type === "authorization_code" &&
          asked.get("code_challenge_method") === "S256" &&
          asked.get("code_challenge") === challenge &&
          asked.get("redirect_uri") === form.redirect_uri;
        if (!right) return json(400, { error: "invalid_grant" });
        const seconds = Math.floor(issuer.now().getTime() / 1000);
        const claims = {
          iss: issuer.url,
          aud: issuer.signIn.clientId,
          iat: seconds,
          exp: seconds + 300,
          nonce: asked.get("nonce"),
          ...issuer.claims,
        };
        const idToken = (issuer.change.idToken ?? issuer.jwt)(claims);
        return json(200, { access_token: "x", token_type: "Bearer", id_token: idToken, ...issuer.change.token });
      }
      default:
        return json(404, {});
    }
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  onTestFinished(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { secret } = options;
  const signIn: SignInIssuer = {
    issuer: url,
    clientId: "kernlock",
    name: options.name ?? "Example",
    ...(secret === undefined ? {} : { clientSecret: secret }),
  };
  const issuer: LittleIssuer = {
    url,
    signIn,
    claims: { sub: "ada-1", name: "Ada", email: "ada@example.org", email_verified: true, groups: ["kernels", "all"] },
    change: {},
    redeemed: [],
    key: pair.privateKey,
    now: options.now ?? (() => new Date()),
    jwt(claims, { key = issuer.key, header = { alg: "ES256", typ: "JWT", kid: "one" } } = {}) {
      const text = `${encode(header)}.${encode(claims)}`;
      const signature = sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" });
      return `${text}.${signature.toString("base64url")}`;
    },
  };
  return issuer;
}

/** From the registry to the issuer and back; gives the registry's last answer. */
export async function signInAt(who: Visitor, path = "/signin/oidc"): Promise<Response> {
  const there = await who.get(path);
  if (there.status !== 303) return there;
  const back = await fetch(there.headers.get("location")!, { redirect: "manual" });
  return who.get(back.headers.get("location")!);
}
