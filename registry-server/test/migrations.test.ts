/**
 * Nodes of two neighbouring releases share a database while an update rolls, so the older one must go on working on the
 * newer schema: migrations only add.
 */
import { expect, test } from "vitest";
import { migrationsOf } from "../store/migrations.ts";

/** Before the first release. */
const exempt = ["0001-first.sql", "0002-roles-and-states.sql"];
const statements = (["sqlite", "postgres"] as const).flatMap((dialect) =>
  migrationsOf(dialect)
    .filter(({ name }) => !(dialect === "sqlite" ? exempt : exempt.slice(0, 1)).includes(name))
    .flatMap(({ name, text }) =>
      text
        .replaceAll(/--.*$/gm, "")
        .split(/;\s*(?:\n|$)/)
        .map((statement) => statement.trim().replaceAll(/\s+/g, " ").toLowerCase())
        .filter((statement) => statement !== "")
        .map((statement) => ({ where: `${dialect} ${name}`, statement })),
    ),
);

test.each(statements)("$where: $statement", ({ statement }) => {
  expect(statement).toMatch(
    /^(create (unique )?index|create table|create virtual table|alter table \S+ add column|insert into|update) /,
  );
  if (statement.startsWith("alter table") && statement.includes(" not null")) expect(statement).toContain(" default ");
});
