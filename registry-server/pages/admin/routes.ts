/** Pages for those who run a registry or decide for a namespace. */
import type { FastifyInstance } from "fastify";
import type { Context } from "../../context.ts";
import type { Publisher } from "../../publish/publish.ts";

export function adminRoutes(_app: FastifyInstance, _context: Context, _publisher: Publisher): void {}
