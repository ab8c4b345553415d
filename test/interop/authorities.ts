/**
 * A private Sigstore of unmodified parts: Fulcio issues certificates for identity tokens, Rekor v2 logs, a timestamp
 * authority tells the time; all on loopback. Two small parts are ours: the identity provider, and the log of
 * certificates (RFC 6962, section 4.2), of which Fulcio wants a promise before it issues.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Certified, certify, newPair, spki, usage } from "../../policies/trust/test/authorities/certificates.ts";
import { context, seq, tlv } from "../../policies/trust/test/authorities/der.ts";
import { readAll, readOid, readOne } from "../../policies/trust/verify/der.ts";
import type { Stage } from "./stage.ts";
import type { Found } from "./tools.ts";

export interface AuthorityTools {
  readonly cosign: Found;
  readonly fulcio: Found;
  readonly rekor: Found;
  readonly tsa: Found;
}

export interface Authorities extends AsyncDisposable {
  /** Of people, known by e-mail address, and of CI jobs, known by the address of their workflow. */
  readonly people: string;
  readonly jobs: string;
  readonly trustedRoot: string;
  /** What cosign signs with: everything, or the certificate alone. */
  readonly whole: string;
  readonly certificateOnly: string;
  readonly ca: Certified;
  personToken(email: string): string;
  jobToken(job: { readonly repository: string; readonly workflow: string }): string;
}

const rekorName = "rekor.kernlock.example";
const began = "2026-01-01T00:00:00Z";

export async function startAuthorities(stage: Stage, tools: AuthorityTools): Promise<Authorities> {
  await using started = new AsyncDisposableStack();
  const people = started.use(await identityProvider());
  const jobs = started.use(await identityProvider());
  const ctKey = newPair();
  const ctLog = started.use(await certificateLog(ctKey));
  const [http, grpc, metrics, tsaPort, rekorPort, rekorGrpc, rekorMetrics] = await freePorts(7);
  const at = (port: number | undefined) => `http://127.0.0.1:${port}`;
  const { path } = stage;

  const ca = certify({ name: "interop code root", ca: true });
  const timeRoot = certify({ name: "interop time root", ca: true });
  const time = certify({ name: "interop time", by: timeRoot, purposes: [usage.timeStamping] });
  const rekorKey = generateKeyPairSync("ed25519");
  const secret = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }) as string;
  const encrypted = { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "interop" } as const;
  const files = {
    ca: pemOf(ca.der),
    caKey: ca.privateKey.export(encrypted) as string,
    time: pemOf(time.der, timeRoot.der),
    timeKey: secret(createPrivateKey(secret(time.privateKey))),
    rekorKey: secret(rekorKey.privateKey),
    rekorPublic: rekorKey.publicKey.export({ type: "spki", format: "pem" }) as string,
    ctPublic: ctKey.publicKey.export({ type: "spki", format: "pem" }) as string,
    fulcio: JSON.stringify(fulcioConfig(people.origin, jobs.origin)),
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(path(`stack-${name}`), text, { mode: 0o600 });
  const file = (name: keyof typeof files) => path(`stack-${name}`);
  mkdirSync(path("stack-log"));

  const run = (name: string, program: string, args: readonly string[], health: string) =>
    started.use(startProgram(program, args, stage.path(`stack-${name}.log`), health, stage.folder));
  await run(
    "fulcio",
    tools.fulcio.path,
    [
      ...["serve", "--host", "127.0.0.1", "--port", `${http}`, "--grpc-host", "127.0.0.1", "--grpc-port", `${grpc}`],
      ...["--metrics-port", `${metrics}`, "--legacy-unix-domain-socket", "", "--ca", "fileca", "--fileca-watch=false"],
      ...["--fileca-cert", file("ca"), "--fileca-key", file("caKey"), "--fileca-key-passwd", "interop"],
      ...["--ct-log-url", ctLog.origin, "--config-path", file("fulcio")],
    ],
    `${at(http)}/healthz`,
  ).ready;
  await run(
    "tsa",
    tools.tsa.path,
    [
      ...["serve", "--host", "127.0.0.1", "--port", `${tsaPort}`, "--timestamp-signer", "file"],
      ...["--file-signer-key-path", file("timeKey"), "--certificate-chain-path", file("time")],
      "--disable-ntp-monitoring",
    ],
    `${at(tsaPort)}/ping`,
  ).ready;
  await run(
    "rekor",
    tools.rekor.path,
    [
      ...["serve", "--http-address", "127.0.0.1", "--http-port", `${rekorPort}`, "--grpc-port", `${rekorGrpc}`],
      ...["--http-metrics-port", `${rekorMetrics}`, "--storage-dir", path("stack-log"), "--hostname", rekorName],
      ...["--signer-filepath", file("rekorKey"), "--checkpoint-interval", "1s"],
    ],
    `${at(rekorPort)}/healthz`,
  ).ready;

  const cosign = async (...args: string[]) => {
    const done = await stage.run(tools.cosign.path, args);
    if (done.status !== 0) throw new Error(`cosign ${args.join(" ")}: ${done.output}`);
  };
  const service = (url: string, version: number) => `url=${url},api-version=${version},start-time=${began},operator=us`;
  const fulcio = ["--fulcio", service(at(http), 1)];
  const [whole, certificateOnly, trustedRoot] = [path("stack-whole"), path("stack-bare"), path("stack-root.json")];
  const log = ["--rekor", service(at(rekorPort), 2), "--rekor-config", "ANY"];
  const clock = ["--tsa", service(`${at(tsaPort)}/api/v1/timestamp`, 1), "--tsa-config", "ANY"];
  await cosign("signing-config", "create", ...fulcio, ...log, ...clock, "--out", whole);
  await cosign("signing-config", "create", ...fulcio, "--out", certificateOnly);
  await cosign(
    ...["trusted-root", "create", "--out", trustedRoot],
    ...["--fulcio", `url=${at(http)},certificate-chain=${file("ca")},start-time=${began}`],
    ...["--tsa", `url=${at(tsaPort)},certificate-chain=${file("time")},start-time=${began}`],
    ...["--ctfe", `url=${ctLog.origin},public-key=${file("ctPublic")},start-time=${began}`],
    ...[
      "--rekor",
      `url=https://${rekorName},public-key=${file("rekorPublic")},start-time=${began},origin=${rekorName}`,
    ],
  );

  const running = started.move();
  return {
    ...{ people: people.origin, jobs: jobs.origin, trustedRoot, whole, certificateOnly, ca },
    personToken: (email) => people.token({ sub: email, email, email_verified: true }),
    jobToken: ({ repository, workflow }) => jobs.token({ sub: repository, repository, workflow, url: jobs.origin }),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Names of its JSON form, which Fulcio tries before YAML. */
function fulcioConfig(people: string, jobs: string): object {
  return {
    OIDCIssuers: {
      [people]: { IssuerURL: people, ClientID: "sigstore", Type: "email" },
      [jobs]: { IssuerURL: jobs, ClientID: "sigstore", Type: "ci-provider", CIProvider: "interop" },
    },
    CIIssuerMetadata: {
      interop: {
        DefaultTemplateValues: { url: jobs },
        ExtensionTemplates: { SourceRepositoryURI: "{{ .url }}/{{ .repository }}" },
        SubjectAlternativeNameTemplate: "{{ .url }}/{{ .repository }}/{{ .workflow }}",
      },
    },
  };
}

interface Provider extends AsyncDisposable {
  readonly origin: string;
  token(claims: object): string;
}

/** An OpenID provider that gives a token to whoever asks this process. */
async function identityProvider(): Promise<Provider> {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const served = await serveJson((request, origin) => {
    if (request.url === "/keys") {
      return { keys: [{ ...publicKey.export({ format: "jwk" }), kid: "one", alg: "RS256", use: "sig" }] };
    }
    return {
      ...{ issuer: origin, jwks_uri: `${origin}/keys`, authorization_endpoint: `${origin}/auth` },
      ...{ token_endpoint: `${origin}/token`, response_types_supported: ["id_token"] },
      ...{ subject_types_supported: ["public"], id_token_signing_alg_values_supported: ["RS256"] },
    };
  });
  return {
    ...served,
    token(claims) {
      const now = Math.floor(Date.now() / 1000);
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const body = { iss: served.origin, aud: "sigstore", iat: now, exp: now + 600, ...claims };
      const text = `${part({ alg: "RS256", kid: "one", typ: "JWT" })}.${part(body)}`;
      return `${text}.${sign("sha256", Buffer.from(text), privateKey).toString("base64url")}`;
    },
  };
}

/** Promises to log whatever precertificate it is shown, at once. */
function certificateLog({ privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject }) {
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
  const number = (value: number, size: number) => Buffer.from(value.toString(16).padStart(2 * size, "0"), "hex");
  return serveJson((_, __, body) => {
    const { chain } = JSON.parse(body) as { chain: string[] };
    const [precertificate, issuer] = chain.map((der) => Buffer.from(der, "base64"));
    if (precertificate === undefined || issuer === undefined) throw new Error("no chain");
    const [tbs] = readAll(readOne(precertificate, 0x30));
    const [issuerTbs] = readAll(readOne(issuer, 0x30));
    // Version, serial, algorithm, issuer, validity, subject, then the key.
    const issuerKey = readAll(issuerTbs!.body)[6]!;
    const unpoisoned = withoutPoison(tbs!.body);
    const timestamp = Date.now();
    const signature = sign(
      "sha256",
      Buffer.concat([
        number(0, 2),
        number(timestamp, 8),
        number(1, 2),
        sha256(tlv(issuerKey.tag, issuerKey.body)),
        number(unpoisoned.length, 3),
        unpoisoned,
        number(0, 2),
      ]),
      privateKey,
    );
    const id = sha256(spki(publicKey)).toString("base64");
    const signed = Buffer.concat([number(0x0403, 2), number(signature.length, 2), signature]).toString("base64");
    return { sct_version: 0, id, timestamp, extensions: "", signature: signed };
  });
}

/** What is signed of a precertificate is the certificate without the mark that makes it unusable. */
function withoutPoison(tbs: Buffer): Buffer {
  const poison = "1.3.6.1.4.1.11129.2.4.3";
  const fields = readAll(tbs).map(({ tag, body }) => {
    if (tag !== 0xa3) return tlv(tag, body);
    const kept = readAll(readOne(body, 0x30)).filter((one) => readOid(readAll(one.body)[0]!.body) !== poison);
    return context(3, seq(...kept.map((one) => tlv(one.tag, one.body))));
  });
  return seq(...fields);
}

async function serveJson(
  answer: (request: IncomingMessage, origin: string, body: string) => object,
): Promise<AsyncDisposable & { readonly origin: string }> {
  let origin = "";
  const server: Server = createServer(async (request, response) => {
    try {
      let body = "";
      for await (const part of request.setEncoding("utf8")) body += part;
      const text = JSON.stringify(answer(request, origin, body));
      response.setHeader("content-type", "application/json").end(text);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  const port = await listening(server);
  origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function listening(server: Server): Promise<number> {
  return new Promise((done, failed) => {
    server.once("error", failed);
    server.listen(0, "127.0.0.1", () => done((server.address() as AddressInfo).port));
  });
}

/** Free at this moment: the programs take only numbers. All are held at once, so that no two are the same. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(servers.map(listening));
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

function startProgram(program: string, args: readonly string[], log: string, health: string, home: string) {
  const out = openSync(log, "w");
  const env = { PATH: process.env.PATH ?? "", HOME: home };
  const child: ChildProcess = spawn(program, args, { cwd: home, env, stdio: ["ignore", out, out] });
  const ended = new Promise<void>((done) => child.once("close", () => done()));
  child.once("error", () => {});
  return {
    ready: answers(child, health, log),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function answers(child: ChildProcess, health: string, log: string): Promise<void> {
  for (let attempt = 0; attempt < 300 && child.exitCode === null; attempt++) {
    const answer = await fetch(health).catch(() => null);
    if (answer !== null) return void (await answer.arrayBuffer());
    await new Promise((wake) => setTimeout(wake, 200));
  }
  throw new Error(`${child.spawnfile} does not answer at ${health}:\n${readFileSync(log, "utf8").slice(-2000)}`);
}

const pemOf = (...certificates: readonly Buffer[]): string =>
  certificates
    .map((der) => {
      const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    })
    .join("");
