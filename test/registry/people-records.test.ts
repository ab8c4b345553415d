/** What the database must do about people, whichever it is. */
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { openRecords } from "../../registry-server/store/open.ts";
import type { Member, Records, SessionRow } from "../../registry-server/store/records.ts";
import { type Driver, scaleOut, sqliteFolder, title } from "./drivers.ts";

for (const driver of [sqliteFolder, scaleOut()]) {
  describe.skipIf(driver.missing !== undefined)(title(driver), () => {
    afterAll(() => driver.close());
    suite(driver);
  });
}

const at = "2026-01-02T03:04:05.678Z";
const later = "2026-01-03T00:00:00.000Z";
const audit = (action: string) => ({ at, actor: "operator", action, subject: "test", details: {} });
const hash = (text: string) => Buffer.from(text.padEnd(32, "."));
const session = (more: Partial<SessionRow> = {}): SessionRow => ({
  issuer: "local",
  subject: "ada",
  name: "Ada",
  claims: '{"sub":"ada"}',
  createdAt: at,
  seenAt: at,
  expiresAt: later,
  ...more,
});
const member = (id: string, more: Partial<Member> = {}): Member => ({
  id,
  namespace: "acme",
  role: "reader",
  issuer: "local",
  claims: { sub: "ada" },
  label: "",
  createdAt: at,
  ...more,
});
const account = { name: "ada", password: null, setupHash: hash("code"), setupUntil: later, createdAt: at };

function suite(driver: Driver): void {
  const open = async (): Promise<Records> => {
    const records = await openRecords(await driver.open());
    onTestFinished(() => records.close());
    return records;
  };

  test("members by namespace and by issuer, removed once", async () => {
    const records = await open();
    await records.addMember(member("a"), audit("member.add"));
    await records.addMember(
      member("b", { namespace: "*", issuer: "https://id.example", claims: { groups: "x" } }),
      audit("member.add"),
    );
    expect(await records.members({ namespace: "acme" })).toEqual([member("a")]);
    expect(await records.members({ issuer: "https://id.example" })).toMatchObject([
      { id: "b", claims: { groups: "x" } },
    ]);
    expect(await records.removeMember("a", audit("member.remove"))).toBe(true);
    expect(await records.removeMember("a", audit("member.remove"))).toBe(false);
    expect((await records.auditHead()).seq).toBe(3);
  });

  test("a setup code sets one password, once, in time; a new password ends sessions", async () => {
    const records = await open();
    expect(await records.addAccount(account, audit("account.create"))).toBe(true);
    expect(await records.addAccount(account, audit("account.create"))).toBe(false);
    const set = (code: string, now: string) =>
      records.setPassword("ada", "scrypt$", { setupHash: hash(code), now }, audit("account.setup"));
    expect(await set("other", at)).toBe(false);
    expect(await set("code", later)).toBe(false);
    expect(await set("code", at)).toBe(true);
    expect(await set("code", at)).toBe(false);
    expect(await records.account("ada")).toMatchObject({ password: "scrypt$", setupHash: null });
    await records.addSession(hash("s"), session(), undefined, audit("session.begin"));
    await records.addSession(hash("t"), session({ issuer: "https://id.example" }), undefined, audit("session.begin"));
    expect(await records.setPassword("ada", "scrypt$2", undefined, audit("account.reset"))).toBe(true);
    expect(await records.session(hash("s"))).toBeUndefined();
    expect(await records.session(hash("t"))).toMatchObject({ subject: "ada" });
  });

  test("an account goes with its roles and sessions, and nobody else's", async () => {
    const records = await open();
    await records.addAccount(account, audit("account.create"));
    await records.addMember(member("a"), audit("member.add"));
    await records.addMember(member("b", { claims: { sub: "bob" } }), audit("member.add"));
    await records.addSession(hash("s"), session(), undefined, audit("session.begin"));
    await records.addSession(hash("t"), session({ subject: "bob" }), undefined, audit("session.begin"));
    expect(await records.removeAccount("ada", { sub: "ada" }, audit("account.remove"))).toBe(true);
    expect(await records.hasAccounts()).toBe(false);
    expect((await records.members({ namespace: "acme" })).map(({ id }) => id)).toEqual(["b"]);
    expect([await records.session(hash("s")), await records.session(hash("t"))]).toMatchObject([undefined, {}]);
  });

  test("a new session takes the place of the one before; old ones are forgotten", async () => {
    const records = await open();
    await records.addSession(hash("one"), session(), undefined, audit("session.begin"));
    await records.addSession(hash("two"), session(), hash("one"), audit("session.begin"));
    expect(await records.session(hash("one"))).toBeUndefined();
    await records.touchSession(hash("two"), "2026-01-02T04:00:00.000Z");
    expect(await records.session(hash("two"))).toMatchObject({ seenAt: "2026-01-02T04:00:00.000Z" });
    expect(await records.forgetSessions("2026-01-02T05:00:00.000Z", "2026-01-02T03:30:00.000Z")).toBe(0);
    expect(await records.forgetSessions("2026-01-02T05:00:00.000Z", "2026-01-02T04:30:00.000Z")).toBe(1);
  });

  test("a sign-in is taken once, by the browser that began it", async () => {
    const records = await open();
    const row = { nonce: "n", verifier: "v", returnTo: "/", expiresAt: later };
    await records.addSignIn(hash("state"), hash("browser"), row);
    expect(await records.takeSignIn(hash("state"), hash("another"))).toBeUndefined();
    const taken = await Promise.all([1, 2, 3].map(() => records.takeSignIn(hash("state"), hash("browser"))));
    expect(taken.filter((one) => one !== undefined)).toEqual([row]);
  });
}
