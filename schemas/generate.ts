/** Writes the JSON Schemas that this folder publishes, from the schemas that the parsers use. */
import { writeFileSync } from "node:fs";
import { policyJsonSchema } from "@kernlock/policies/trust";

writeFileSync(new URL("policy.schema.json", import.meta.url), `${JSON.stringify(policyJsonSchema(), null, 2)}\n`);
