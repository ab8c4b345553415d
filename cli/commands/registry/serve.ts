import { dirname } from "node:path";
import { type SignInIssuer, serve } from "@kernlock/registry-server";
import { type Command, Option } from "commander";
import { collect, command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { type DataFlags, dataOptions, seconds, wholeNumber, withData } from "./data.ts";
import { readText } from "./files.ts";

interface ServeFlags extends DataFlags {
  readonly host: string;
  readonly port: string;
  readonly origin?: string;
  readonly policy?: string;
  readonly log: "debug" | "info" | "warn" | "error" | "off";
  readonly maxBlob?: string;
  readonly audience?: string;
  readonly trustedProxy?: readonly string[];
  readonly redirectFrom?: string;
  readonly feedsEvery: string;
  readonly gcEvery?: string;
  readonly gcGrace?: string;
  readonly minBodyRate?: string;
  readonly transfers: "auto" | "native" | "javascript";
  readonly readsPerMinute?: string;
  readonly writesPerMinute?: string;
  readonly loginsPerMinute?: string;
  readonly signInIssuer?: string;
  readonly signInClient?: string;
  readonly signInSecretFile?: string;
  readonly signInName?: string;
  readonly signInScope?: string;
}

export function serveCommand(): Command {
  return command<ServeFlags>(
    "serve",
    "serve a registry until it is told to stop",
    (target) =>
      withData(target)
        .option("--host <address>", "address to listen on", "127.0.0.1")
        .option("--port <n>", "port to listen on (0: a free one)", "7420")
        .option("--origin <url>", "public origin, where a proxy stands in front")
        .option("--trusted-proxy <address>", "proxy whose X-Forwarded-For is believed (again for more)", collect)
        .option(
          "--policy <file>",
          "the operator's policy, above those of the namespaces; the files of its feeds and exceptions/ lie beside it",
        )
        .option("--audience <text>", "audience of identity tokens that are exchanged (default: the origin)")
        .option("--max-blob <bytes>", "largest blob that is taken (default: 4 GiB)")
        .option("--redirect-from <bytes>", "send clients to the object store for blobs of at least this size")
        .option(
          "--feeds-every <time>",
          "look for new numbers of the feeds that policies name this often; 0s: never",
          "5m",
        )
        .option("--gc-every <time>", "collect garbage this often, e.g. 1h (default: only `registry gc`)")
        .option("--gc-grace <time>", "keep what is unpublished for this long (default: 24h)")
        .option("--min-body-rate <bytes>", "slowest body of a request, in bytes a second; 0: any (default: 500)")
        .option("--reads-per-minute <n>", "of one token or address (default: 12000)")
        .option("--writes-per-minute <n>", "of one token or address (default: 6000)")
        .option("--logins-per-minute <n>", "token requests and refused credentials of one address (default: 60)")
        .option("--sign-in-issuer <url>", "OpenID Connect issuer where people sign in to the pages")
        .option(
          "--sign-in-client <id>",
          "this registry's client id there; its redirect address is <origin>/signin/callback",
        )
        .option("--sign-in-secret-file <file>", "the client's secret (default: a public client, PKCE alone)")
        .option("--sign-in-name <text>", "what the button calls the issuer (default: its host)")
        .option("--sign-in-scope <text>", "what is asked for (default: openid profile email)")
        .addOption(
          new Option("--transfers <way>", "how bytes move between clients and files; auto: native where it can be had")
            .choices(["auto", "native", "javascript"])
            .default("auto"),
        )
        .addOption(
          new Option("--log <level>", "structured logs on stdout")
            .choices(["debug", "info", "warn", "error", "off"])
            .default("off"),
        ),
    async ({ output, options }) => {
      const number = (flag: string, text: string | undefined) =>
        text === undefined ? undefined : wholeNumber(flag, text);
      const given = {
        origin: options.origin,
        audience: options.audience,
        trustedProxies: options.trustedProxy,
        policy: options.policy === undefined ? undefined : readText(options.policy),
        policyFolder: options.policy === undefined ? undefined : dirname(options.policy),
        feedsEverySeconds: seconds("--feeds-every", options.feedsEvery),
        maxBlobBytes: number("--max-blob", options.maxBlob),
        redirectFromBytes: number("--redirect-from", options.redirectFrom),
        gcEverySeconds: options.gcEvery === undefined ? undefined : seconds("--gc-every", options.gcEvery),
        gcGraceSeconds: options.gcGrace === undefined ? undefined : seconds("--gc-grace", options.gcGrace),
      };
      const limits = {
        read: number("--reads-per-minute", options.readsPerMinute),
        write: number("--writes-per-minute", options.writesPerMinute),
        login: number("--logins-per-minute", options.loginsPerMinute),
      };
      const bodyFloor = { bytesPerSecond: number("--min-body-rate", options.minBodyRate) };
      const registry = await serve({
        ...dataOptions(options),
        ...defined(given),
        ...signInOf(options),
        limits: defined(limits),
        bodyFloor: defined(bodyFloor),
        transfers: options.transfers,
        host: options.host,
        port: wholeNumber("--port", options.port, 65_535),
        log: options.log === "off" ? false : options.log,
      });
      output.result(
        { origin: registry.origin, port: registry.port },
        () => `registry on ${registry.origin} (Ctrl-C stops it)\n`,
      );
      return 0;
    },
  );
}

function signInOf(flags: ServeFlags): { signIn?: SignInIssuer } {
  const { signInIssuer: issuer, signInClient: clientId, signInSecretFile: secretFile } = flags;
  if (issuer === undefined && clientId === undefined) return {};
  if (issuer === undefined || clientId === undefined) usage("Name both --sign-in-issuer and --sign-in-client.");
  const { signInName: name, signInScope: scope } = flags;
  if (scope !== undefined && !scope.split(" ").includes("openid"))
    usage("--sign-in-scope needs openid among its words.");
  const clientSecret = secretFile === undefined ? undefined : readText(secretFile).trim();
  return { signIn: { issuer, clientId, ...defined({ clientSecret, name, scope }) } };
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function defined<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
}
