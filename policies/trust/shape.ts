import type { z } from "zod";

/** The path and text of a schema's first complaint; neither repeats hostile values at length. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return "unknown reason";
  const path = issue.path.map(String).join(".").slice(0, 100);
  return `${path === "" ? "" : `${path}: `}${issue.message.slice(0, 200)}`;
}
