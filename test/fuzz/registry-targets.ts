/**
 * What only the registry reads: headers, addresses, credentials, manifests of any kind. Several headers are one input, a
 * line each.
 */
import { isVersion, mediaTypes } from "@kernlock/kernels/format";
import { tokenFromHeader } from "../../registry-server/access.ts";
import { challengeParameters } from "../../registry-server/mirror/credentials.ts";
import { digestParameter, isUnchanged, repositoryOf } from "../../registry-server/oci/names.ts";
import { parseContentRange, parseRange } from "../../registry-server/oci/ranges.ts";
import { decodeIdentity } from "../../registry-server/oidc/jwt.ts";
import { parseManifestPut } from "../../registry-server/publish/store-manifest.ts";
import { isWellFormedToken, newToken } from "../../registry-server/tokens.ts";
import type { Pack } from "../attacks/pack.ts";
import { type Target, word } from "./targets.ts";

const size = 1000;
const base64url = (json: unknown) => Buffer.from(JSON.stringify(json)).toString("base64url");
const jwt = [
  { alg: "ES256", kid: "one", typ: "JWT" },
  { iss: "https://ci.example", sub: "repo:acme/norm", aud: "https://kernels.example", exp: 1_800_000_000 },
].map(base64url);
const digests = [`sha256:${"0a".repeat(32)}`, `sha512:${"0a".repeat(64)}`];

/** Headers are text without line ends; what is missing was not sent. */
function lines(bytes: Uint8Array): readonly (string | undefined)[] {
  return Buffer.from(bytes).toString("latin1").split("\n");
}

/** Something was understood that must not be: a finding, since it is no coded refusal. */
function never(what: string): never {
  throw new Error(`${what} was accepted`);
}

export function registryTargets(pack: Pack): Target[] {
  return [
    {
      name: "ranges",
      what: "Range, Content-Range, If-None-Match",
      seeds: ['bytes=0-99\n0-99\n100\n"x"', "bytes=-5\nbytes 5-9/*\n5\n*", 'bytes=990-\n0-0\n1\nW/"x", "y"'].map(
        (text) => Buffer.from(text),
      ),
      run: (bytes) => {
        const [range, content, length, match] = lines(bytes);
        return [
          () => {
            const part = parseRange(range, size);
            if (part !== undefined && !(part.start >= 0 && part.start <= part.end && part.end < size)) never("a range");
          },
          () => {
            const part = parseContentRange(content, length);
            if (part !== undefined && !(part.start >= 0 && part.length > 0 && Number.isSafeInteger(part.length))) {
              never("a content range");
            }
          },
          () => void isUnchanged(match, '"x"'),
        ]
          .map(word)
          .join();
      },
    },
    {
      name: "names",
      what: "repositories, digests, versions in addresses",
      seeds: [`acme\nnorm\n${digests[0]}\n1.0.0`, `a.b-c_d\nx1\n${digests[1]}\n1.0.0-rc.1`].map((text) =>
        Buffer.from(text),
      ),
      run: (bytes) => {
        const [namespace = "", name = "", digest = "", version = ""] = lines(bytes);
        return [
          () => {
            const { repository } = repositoryOf({ namespace, name });
            if (!/^[a-z0-9._-]+\/[a-z0-9._-]+$/.test(repository) || repository.includes("..")) never("a repository");
          },
          () => {
            if (!digests.some((good) => good.length === digestParameter(digest).length)) never("a digest");
          },
          () => {
            if (isVersion(version) && !/^[0-9A-Za-z.-]+$/.test(version)) never("a version");
          },
        ]
          .map(word)
          .join();
      },
    },
    {
      name: "credentials",
      what: "Authorization, identity tokens, WWW-Authenticate",
      seeds: [
        `Bearer ${newToken()}\n${jwt.join(".")}.c2ln\nrealm="https://kernels.example/token",service="kernlock"`,
        `Basic ${Buffer.from(`x:${newToken()}`).toString("base64")}\n${jwt.join(".")}.\nrealm="/",scope="repository:a/b:pull"`,
      ].map((text) => Buffer.from(text)),
      run: (bytes) => {
        const [authorization, identity = "", challenge = ""] = lines(bytes);
        return [
          () => {
            const token = tokenFromHeader(authorization);
            if (token !== undefined && isWellFormedToken(token) && !/^klr_[0-9A-Za-z]{39}$/.test(token))
              never("a token");
          },
          () => {
            if (!["RS256", "ES256"].includes(decodeIdentity(identity).algorithm)) never("an algorithm");
          },
          () => {
            for (const [name, value] of Object.entries(challengeParameters(challenge))) {
              if (!/^[a-z]+$/.test(name) || typeof value !== "string") never("a parameter");
            }
          },
        ]
          .map(word)
          .join();
      },
    },
    {
      name: "manifests",
      what: "manifests that are put, of kernels and of plain artifacts",
      seeds: [
        pack.index,
        pack.variants[0]!.manifest,
        Buffer.from(
          JSON.stringify({
            schemaVersion: 2,
            mediaType: mediaTypes.manifest,
            artifactType: "application/vnd.example",
            config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digests[0], size: 2 },
            layers: [{ mediaType: "application/octet-stream", digest: digests[1], size: 5, annotations: { a: "b" } }],
            subject: { mediaType: mediaTypes.index, digest: digests[0], size: 7 },
            annotations: null,
          }),
        ),
      ],
      run: (bytes) =>
        (["kernels", "artifacts"] as const)
          .flatMap((kind) => [mediaTypes.index, mediaTypes.manifest].map((mediaType) => ({ kind, mediaType })))
          .map(({ kind, mediaType }) =>
            word(() => parseManifestPut({ bytes: Buffer.from(bytes), mediaType, owner: { kind } })),
          )
          .join(),
    },
  ];
}
