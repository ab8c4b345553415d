/** Commands for a registry's data on this machine (`--data`) or for one that serves (`--registry`, with a token). */
import type { Admin } from "@kernlock/registry-server";
import { type Command, Option } from "commander";
import type { z } from "zod";
import { usage } from "../../errors.ts";
import type { RegistryFlags } from "../../registry-access.ts";
import { apiSend } from "../../registry-api.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";

export interface PlaceFlags extends Omit<DataFlags, "data">, RegistryFlags {
  readonly data?: string;
}

export function withPlace(target: Command): Command {
  const own = withData(target);
  const data = own.options.find((option) => option.long === "--data");
  if (data !== undefined) data.mandatory = false;
  return withServer(own);
}

/** For what only a serving registry can do. */
export function withServer(target: Command): Command {
  return target
    .addOption(new Option("--registry <url>", "a registry that serves, in place of --data"))
    .option("--token-file <file>", "file that holds its token (default: KERNLOCK_TOKEN, else what login stored)")
    .option("--ca <file>", "certificate authorities to trust (PEM), for private TLS");
}

/** Asks a registry's API. */
export interface Api {
  get<T>(path: string, shape: z.ZodType<T>): Promise<T>;
  send<T>(method: "POST" | "PUT", path: string, body: unknown, shape: z.ZodType<T>): Promise<T>;
}

export function apiOf(flags: RegistryFlags): Api {
  if (flags.registry === undefined) return usage("Name a registry that serves with --registry.");
  const origin = flags.registry.replace(/\/+$/, "");
  return {
    get: (path, shape) => apiSend(origin, "GET", path, undefined, shape, flags),
    send: (method, path, body, shape) => apiSend(origin, method, path, body, shape, flags),
  };
}

/** Does it on the data, as the operator, or through the API, as whoever the token is. */
export function atPlace<T>(
  flags: PlaceFlags,
  ways: { readonly data: (admin: Admin) => Promise<T>; readonly api: (api: Api) => Promise<T> },
): Promise<T> {
  const { data, registry } = flags;
  if ((data === undefined) === (registry === undefined)) usage("Give either --data or --registry.");
  return data === undefined ? ways.api(apiOf(flags)) : withAdmin({ ...flags, data }, ways.data);
}

/** `namespace/name@version`, or wrong usage. */
export function versionIn(text = ""): { repository: string; version: string } {
  const [repository = "", version = "", ...more] = text.split("@");
  if (!/^[^/]+\/[^/]+$/.test(repository) || version === "" || more.length > 0)
    usage(`Name a version as namespace/name@version, not "${text}".`);
  return { repository, version };
}
