/** Manifests are answered before the web framework: by the byte as behind it, whatever is asked, counted and logged alike. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { expect, onTestFinished, test, vi } from "vitest";
import { newToken } from "../tokens.ts";
import { makePackage, publish, pushAll, putBlob, putManifest, putTag, startRegistry } from "./material.ts";

const many = { read: 1e9, write: 1e9, login: 1e9 };
const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** All bytes that come back; the request must say that it is the last of its connection. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  const parts: Buffer[] = [];
  socket.on("data", (part) => parts.push(part)).write(text, "latin1");
  await once(socket, "close");
  return Buffer.concat(parts).toString("latin1");
}

const line = (method: string, path: string, headers: string, version = "1.1") =>
  `${method} ${path} HTTP/${version}\r\nHost: x\r\n${headers}Connection: close\r\n\r\n`;

/** What differs from one moment to the next. */
const settled = (answer: string) =>
  answer.replaceAll(/^Date: .*$/gim, "Date").replaceAll(/remaining=\d+, reset=\d+/g, "remaining, reset");

async function everything() {
  const at = await startRegistry({ limits: many, log: "debug" });
  const { registry } = at;
  const { policy } = (await registry.getNamespace("acme"))!;
  await registry.createNamespace({ name: "secret", visibility: "private", policy });
  await registry.createNamespace({ name: "things", kind: "artifacts", deletion: "allowed" });
  await registry.createNamespace({ name: "kept", kind: "artifacts" });
  const token = async (namespace: string, role: "reader" | "publisher" | "admin") =>
    (await registry.createToken({ namespace, role })).token;
  const packs = [makePackage(), makePackage({ version: "2.0.0", card: "# 2\n" }), makePackage({ version: "3.0.0" })];
  for (const pack of packs) await publish(at, pack);
  const state = (version: string, to: "yanked" | "quarantined") =>
    registry.setVersionState({ repository: "acme/norm", version, state: to, reason: "it is wrong" });
  await state("2.0.0", "quarantined");
  await state("3.0.0", "yanked");
  const pushed = makePackage({ version: "4.0.0", card: "# pushed, without a tag\n" });
  await pushAll(at, pushed);
  const hidden = makePackage({ name: "secret/norm" });
  const secretWrite = await token("secret", "publisher");
  await pushAll(at, hidden, { token: secretWrite });
  expect((await putTag(at, hidden, secretWrite)).status).toBe(201);
  // Small and large, in letters that have more than one byte.
  const artifacts: string[] = [];
  for (const [name, padding] of [
    ["things/small", "é"],
    ["things/large", "é".repeat(40_000)],
    ["kept/small", "ü"],
  ] as const) {
    const write = await token(name.split("/")[0]!, "publisher");
    const config = Buffer.from("{}");
    await putBlob(at, write, name, config);
    const layer = { mediaType: "application/octet-stream", digest: digestOf(config), size: 2 };
    const body = { schemaVersion: 2, mediaType: manifestType, config: layer, layers: [], annotations: { padding } };
    const bytes = Buffer.from(JSON.stringify(body));
    for (const reference of ["latest", digestOf(bytes)]) {
      expect((await putManifest(at, write, name, reference, bytes, manifestType)).status).toBe(201);
      artifacts.push(`/v2/${name}/manifests/${reference}`);
    }
  }
  const revoked = await registry.createToken({ namespace: "acme", role: "publisher" });
  await registry.revokeToken(revoked.id);
  const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;
  const whose = {
    nobody: "",
    reader: `Authorization: Bearer ${at.read}\r\n`,
    publisher: `authorization: bearer ${at.write}\r\n`,
    admin: `Authorization: Bearer ${await token("*", "admin")}\r\n`,
    stranger: `Authorization: ${basic(`me:${secretWrite}`)}\r\n`,
    "unknown token": `Authorization: Bearer ${newToken()}\r\n`,
    "revoked token": `Authorization: Bearer ${revoked.token}\r\n`,
    mistyped: `Authorization: Bearer ${at.read}x\r\n`,
    "another scheme": "Authorization: Digest x\r\n",
  };
  const of = (name: string, ...references: string[]) => references.map((one) => `/v2/${name}/manifests/${one}`);
  const variant = (pack: typeof pushed) => digestOf(pack.variants[0]!.manifest);
  const nothing = `sha256:${"0".repeat(64)}`;
  const plain = [
    ...packs.flatMap((pack) => of("acme/norm", pack.version, pack.digest, variant(pack))),
    ...of("acme/norm", "4.0.0", pushed.digest, variant(pushed), "9.9.9", "latest", nothing),
    ...of("acme/norm", "sha256:abc", `sha512:${"0".repeat(128)}`, `SHA256:${"0".repeat(64)}`, "..", ".", "-", ":"),
    ...of("secret/norm", "1.0.0", hidden.digest, nothing),
    ...of("absent/norm", "1.0.0", nothing),
    ...of("acme/absent", "1.0.0", nothing),
    ...of("acme/..", "1.0.0"),
    ...of("-acme/no--rm", "1.0.0"),
    ...of("a".repeat(128), "1.0.0").map((path) => path.replace("/manifests", `/${"b".repeat(128)}/manifests`)),
    ...artifacts,
    ...of("things/small", "absent", nothing, "x".repeat(128), "x".repeat(129), "x".repeat(200)),
  ];
  const odd = [
    ...of("acme/norm", "1%2e0.0", "%31.0.0", "1.0.0?", "1.0.0?x=1", "1.0.0/", "1.0.0;a", "1.0.0#a", "1.0.0%", "%ff"),
    ...of("acme/norm", "x".repeat(201), "x".repeat(300), "1.0.0+b", "~"),
    ...of("acme%2fnorm", "1.0.0"),
    ...of("acme/norm/more", "1.0.0"),
    ...of("norm", "1.0.0"),
    ...of("ACME/norm", "1.0.0"),
    ...of(`acme/${"b".repeat(129)}`, "1.0.0"),
    ...of(`acme/${"b".repeat(300)}`, "1.0.0"),
    ...[
      "/v2/acme/norm/manifests/",
      "/v2/acme/norm/manifests",
      "/v2//norm/manifests/1.0.0",
      "//v2/acme/norm/manifests/1",
    ],
    ...["/v2/acme/norm/Manifests/1.0.0", "/v2/acme/norm/blobs/x", "http://x/v2/acme/norm/manifests/1.0.0", "*", "/"],
  ];
  const public1 = "/v2/acme/norm/manifests/1.0.0";
  const etag = `"${packs[0]!.digest}"`;
  const conditions = [etag, `W/${etag}`, "*", `"x", ${etag}`, '"x"', packs[0]!.digest, ""].map(
    (value) => `If-None-Match: ${value}\r\n`,
  );
  const more = [
    `Accept: ${mediaTypes.index}\r\n`,
    "Accept: text/plain;q=0.1\r\nAccept-Encoding: gzip, br\r\n",
    "Accept-Version: 2.x\r\n",
    "Range: bytes=0-3\r\n",
    "Content-Length: 0\r\n",
    "Sec-Fetch-Site: cross-site\r\nOrigin: http://other.example\r\n",
    "X-Forwarded-For: 10.0.0.1\r\nX-Http-Method-Override: DELETE\r\n",
    "Upgrade: websocket\r\n",
    "Cookie: session=x\r\nKernlock-Via: 0123456789ab\r\n",
    `If-None-Match: "x"\r\nIf-None-Match: ${etag}\r\n`,
    `Authorization: Bearer ${at.read}\r\nAuthorization: Bearer ${newToken()}\r\n`,
    "Authorization: \r\n",
    "Authorization: Bearer\r\n",
    "Authorization: Bearer  \r\n",
  ];
  const methods = ["OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE", "QUERY"];
  const asked = {
    plain: [
      ...Object.values(whose).flatMap((who) =>
        plain.flatMap((path) => [line("GET", path, who), line("HEAD", path, who)]),
      ),
      ...[...conditions, ...more].flatMap((header) => [line("GET", public1, header), line("HEAD", public1, header)]),
      // Twice on one connection.
      `GET ${public1} HTTP/1.1\r\nHost: x\r\n\r\n${line("HEAD", public1, "")}`,
      `GET ${public1}9 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n${line("GET", public1, "")}`,
      line("GET", public1, "", "1.0"),
    ],
    odd: [
      ...odd.flatMap((path) => [line("GET", path, ""), line("HEAD", path, whose.reader)]),
      ...methods.flatMap((method) => [line(method, public1, ""), line(method, public1, whose.reader)]),
      ...["GET", "HEAD"].flatMap((method) => [
        `${method} ${public1} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody`,
        `${method} ${public1} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n`,
      ]),
    ],
  };
  return { at, asked, monitor: `Authorization: Bearer ${await token("*", "admin")}\r\n` };
}

test("every answer is the framework's, byte by byte, and so are counters and logs", async () => {
  let logs = "";
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    logs += String(chunk);
    return true;
  });
  onTestFinished(() => spy.mockRestore());
  const { at, asked, monitor } = await everything();
  const { app } = at.registry;
  // The same routes on another port, of the framework alone.
  const behind = createServer((request, response) => app.routing(request, response));
  behind.keepAliveTimeout = (app.server as typeof behind).keepAliveTimeout;
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  onTestFinished(() => void behind.close());
  const port = { direct: Number(new URL(at.origin).port), framework: (behind.address() as AddressInfo).port };
  let handled = 0;
  const count = () => void handled++;
  subscribe("tracing:fastify.request.handler:start", count);
  onTestFinished(() => void unsubscribe("tracing:fastify.request.handler:start", count));

  const counters = async () => {
    const text = await exchange(port.framework, line("GET", "/metrics", monitor));
    const found = [...text.matchAll(/^(kernlock_(?:http_requests|refusals)_total\{[^}]*\}) (\d+)$/gm)];
    return new Map(found.map(([, name, value]) => [name!, Number(value)] as const));
  };
  const through = async (to: number, requests: readonly string[], open: number) => {
    const before = await counters();
    handled = 0;
    logs = "";
    const answers: string[] = [];
    for (const text of requests) answers.push(settled(await exchange(to, text)));
    const mine = handled;
    await vi.waitFor(() => expect(openRequests(logs)).toBe(open));
    const said = sayings(logs);
    const after = await counters();
    const grown = [...after]
      .map(([name, value]) => [name, value - (before.get(name) ?? 0)])
      .filter(([, by]) => by !== 0);
    // The question itself is one.
    return {
      answers,
      counted: grown.filter(([name]) => !String(name).includes("/metrics")).sort(),
      said,
      handled: mine,
    };
  };
  for (const kind of ["plain", "odd"] as const) {
    // Addresses that the framework's router cannot take apart have no end in its log.
    const open = kind === "odd" ? 8 : 0;
    const direct = await through(port.direct, asked[kind], open);
    const framework = await through(port.framework, asked[kind], open);
    for (const [i, text] of asked[kind].entries()) expect(direct.answers[i], text).toBe(framework.answers[i]);
    expect(direct.counted).toEqual(framework.counted);
    expect(direct.said).toEqual(framework.said);
    expect(direct.handled > 0, `${direct.handled} handled`).toBe(kind === "odd");
    expect(framework.handled).toBeGreaterThan(0);
    const statuses = new Set(direct.answers.map((text) => text.slice(9, 12)));
    if (kind === "plain") expect([...statuses].sort()).toEqual(["200", "304", "400", "401", "403", "404"]);
  }
}, 120_000);

const linesOf = (logs: string) =>
  logs
    .split("\n")
    .filter((text) => text !== "")
    .map((text) => JSON.parse(text) as Record<string, unknown>);
const openRequests = (logs: string) => {
  const messages = linesOf(logs).map(({ msg }) => msg);
  const number = (wanted: string) => messages.filter((msg) => msg === wanted).length;
  return number("incoming request") - number("request completed");
};
/** Request by request, without what no two runs have in common. */
function sayings(logs: string): string[] {
  const ids = new Map<unknown, number>();
  return linesOf(logs)
    .map(({ time: _, responseTime, reqId, ...line }) => {
      if (!ids.has(reqId)) ids.set(reqId, ids.size);
      return { request: ids.get(reqId)!, line, timed: typeof responseTime };
    })
    .sort((a, b) => a.request - b.request)
    .map((one) => JSON.stringify(one));
}

test("who asks too often is refused as behind the framework, and behind a trusted proxy by address", async () => {
  for (const [trustedProxies, last] of [
    [undefined, 429],
    [["127.0.0.1"], 404],
  ] as const) {
    const at = await startRegistry({ limits: { read: 4 }, ...(trustedProxies ? { trustedProxies } : {}) });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const headers = { "x-forwarded-for": `10.0.0.${i}` };
      const answer = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { headers });
      statuses.push(answer.status);
      if (answer.status === 429) expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
    }
    expect(statuses).toEqual([404, 404, last, last]);
  }
});

test("a registry that stops answers nobody any more", async () => {
  const at = await startRegistry();
  const socket = connect(Number(new URL(at.origin).port), "127.0.0.1").on("error", () => {});
  const closed = new Promise((done) => socket.once("close", done));
  const ask = () => socket.write("GET /v2/acme/norm/manifests/1.0.0 HTTP/1.1\r\nHost: x\r\n\r\n");
  ask();
  expect(String((await once(socket, "data"))[0])).toMatch(/^HTTP\/1\.1 404 /);
  let rest = "";
  socket.on("data", (part) => {
    rest += String(part);
  });
  const closing = at.registry.close(1);
  ask();
  await closed;
  expect(rest).toMatch(/^($|HTTP\/1\.1 503 )/);
  await closing;
});
