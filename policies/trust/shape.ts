import type { z } from "zod";

/** The path and text of a schema's first complaint: short, and fit for a terminal, since both may quote hostile text. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return "unknown reason";
  const path = issue.path.map(String).join(".").slice(0, 100);
  const text = `${path === "" ? "" : `${path}: `}${issue.message.slice(0, 200)}`;
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
}
