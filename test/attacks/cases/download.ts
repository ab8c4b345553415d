import type { IncomingMessage, ServerResponse } from "node:http";
import type { Digest } from "@kernlock/kernels/format";
import type { Attack, Twist } from "../attack.ts";
import { contents, type Pack } from "../pack.ts";

type Answer = (whole: Buffer, response: ServerResponse, request: IncomingMessage) => void;
type Row = [number: Attack["number"], name: string, code: `KL_${string}`, answer: Answer];

const lies = (answer: Answer): Twist => ({
  serve(pack, request, response, digest) {
    if (digest !== payloadOf(pack)) return false;
    answer(Buffer.from(contents(pack).get(payloadOf(pack))!), response, request);
    return true;
  },
});
const payloadOf = (pack: Pack): Digest => pack.lock.variants[0].files.at(-1).digest;
const send = (
  response: ServerResponse,
  bytes: Uint8Array,
  headers: Record<string, string | number> = {},
  status = 200,
) => response.writeHead(status, { "content-length": bytes.byteLength, ...headers }).end(bytes);

function other(whole: Buffer): Buffer {
  const bytes = Buffer.from(whole);
  bytes[100]! ^= 1;
  return bytes;
}

const rows: Row[] = [
  ["own", "other bytes under a digest", "KL_OCI_DIGEST_MISMATCH", (whole, r) => send(r, other(whole))],
  [
    85,
    "other bytes, and a digest header that says they are right",
    "KL_OCI_DIGEST_MISMATCH",
    (whole, r, q) => send(r, other(whole), { "docker-content-digest": q.url?.split("/").at(-1) ?? "" }),
  ],
  ["own", "fewer bytes, honestly announced", "KL_OCI_SIZE", (whole, r) => send(r, whole.subarray(1))],
  ["own", "more bytes, honestly announced", "KL_OCI_SIZE", (whole, r) => send(r, Buffer.concat([whole, whole]))],
  [18, "a stream without a length that goes on for ever", "KL_OCI_SIZE", endless],
  [
    "own",
    "an error page of the right length with status 200",
    "KL_OCI_DIGEST_MISMATCH",
    (whole, r) => send(r, Buffer.alloc(whole.length, "<"), { "content-type": "text/html" }),
  ],
  [
    "own",
    "a body in gzip",
    "KL_OCI_PROTOCOL",
    (whole, r) => send(r, whole.subarray(0, 500), { "content-encoding": "gzip" }),
  ],
  ["own", "an empty body", "KL_OCI_SIZE", (_, r) => send(r, Buffer.alloc(0))],
  [
    "own",
    "a range that nobody asked for",
    "KL_OCI_REFUSED",
    (whole, r) => send(r, whole.subarray(10), { "content-range": `bytes 10-${whole.length - 1}/${whole.length}` }, 206),
  ],
  ["own", "a denial", "KL_OCI_AUTH", (_, r) => send(r, Buffer.from("no"), {}, 403)],
  ["own", "nothing of this name", "KL_OCI_NOT_FOUND", (_, r) => send(r, Buffer.from("no"), {}, 404)],
  ["own", "a redirect to another host that serves other bytes", "KL_OCI_DIGEST_MISMATCH", redirected],
  [
    "own",
    "a redirect to itself, for ever",
    "KL_OCI_PROTOCOL",
    (_, r, q) => send(r, Buffer.alloc(0), { location: q.url ?? "" }, 307),
  ],
  [
    "own",
    "a redirect to a file of this machine",
    "KL_OCI_PROTOCOL",
    (_, r) => send(r, Buffer.alloc(0), { location: "file:///etc/passwd" }, 307),
  ],
];

function endless(_: Buffer, response: ServerResponse): void {
  response.writeHead(200, {});
  const more = (): void => {
    while (!response.destroyed && response.write(Buffer.alloc(1 << 16)));
    if (!response.destroyed) response.once("drain", more);
  };
  response.on("error", () => {});
  more();
}

/** The same server under another name, which for a client is another host. */
function redirected(whole: Buffer, response: ServerResponse, request: IncomingMessage): void {
  if (request.headers.host?.startsWith("localhost")) send(response, other(whole));
  else {
    const port = request.socket.localPort;
    send(response, Buffer.alloc(0), { location: `http://localhost:${port}${request.url}` }, 307);
  }
}

export const downloadAttacks: readonly Attack[] = rows.map(([number, name, code, answer]) => ({
  number,
  name,
  area: "download",
  refused: { fetch: code },
  how: () => lies(answer),
}));
