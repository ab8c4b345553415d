import { expect, test } from "vitest";
import { html } from "../pages/html.ts";
import { renderCard } from "../publish/card.ts";
import { hostile } from "./hostile-markup.ts";
import { makePackage, publish, startRegistry } from "./material.ts";

test.each(hostile)("a card with %j is inert", (markdown) => {
  const card = renderCard(markdown);
  const tags = [...card.matchAll(/<\/?([a-z0-9]+)([^>]*)>/gi)];
  for (const [tag, name, attributes] of tags) {
    expect(
      "h2 h3 h4 h5 h6 p ul ol li blockquote pre code em strong del a hr br table thead tbody tr th td".split(" "),
      tag,
    ).toContain(name);
    expect(attributes, tag).toMatch(
      /^(| href="(https?:\/\/|mailto:)[^"<>]*" rel="nofollow noopener noreferrer"| \/| align="\w+")$/,
    );
  }
});

test("a card keeps what a card is for", () => {
  expect(renderCard("# A\n\n**b** `c` [d](https://e.example)\n\n|f|\n|-:|\n|1|\n")).toBe(
    '<h2>A</h2>\n<p><strong>b</strong> <code>c</code> <a href="https://e.example" rel="nofollow noopener noreferrer">d</a></p>\n' +
      '<table>\n<thead>\n<tr>\n<th align="right">f</th>\n</tr>\n</thead>\n<tbody><tr>\n<td align="right">1</td>\n</tr>\n</tbody></table>\n',
  );
});

test("descriptions that are markup are text, on every page that shows them", async () => {
  const at = await startRegistry();
  // A description has at most 1,000 characters.
  const texts = hostile.map((text) => text.replaceAll(/\p{C}/gu, " "));
  const names = Array.from({ length: Math.ceil(texts.length / 10) }, (_, i) => `acme/k${i}`);
  for (const [i, name] of names.entries()) {
    await publish(at, makePackage({ name, description: texts.slice(i * 10, i * 10 + 10).join(" ") }));
  }
  for (const path of ["/", "/?q=k1", ...names.flatMap((name) => [`/kernels/${name}`, `/kernels/${name}/versions`])]) {
    const text = await (await fetch(at.origin + path)).text();
    expect(text).not.toMatch(
      /<(script|iframe|math|object|embed|video|audio|style|base|xss|marquee|template)\b|<img (?!src="\/assets\/)/i,
    );
  }
});

test("templates escape every value", () => {
  const evil = `"'><b>&`;
  expect(html`<a title="${evil}">${[evil, html`<i>${1}</i>`]}${null}${false}</a>`.text).toBe(
    '<a title="&quot;&#39;&gt;&lt;b&gt;&amp;">&quot;&#39;&gt;&lt;b&gt;&amp;<i>1</i></a>',
  );
});

test("pages carry a policy without scripts, and say nothing that was not escaped", async () => {
  const at = await startRegistry();
  const description = `<b>"bold"</b> & 'more'`;
  await publish(at, makePackage({ description, card: hostile.join("\n\n") }));
  for (const path of [
    "/",
    "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
    "/kernels/acme/norm",
    "/kernels/no/such",
    "/signin",
  ]) {
    const answer = await fetch(at.origin + path, { redirect: "manual" });
    const policy = answer.headers.get("content-security-policy")!;
    expect(policy).toMatch(/^default-src 'none'; /);
    expect(policy).not.toMatch(/unsafe|script-src|https?:|\*/);
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("content-type")).toBe("text/html; charset=utf-8");
    const text = await answer.text();
    expect(text).not.toMatch(/<script|<b>"bold|onerror=alert\(1\)>|style="/);
  }
  expect(await (await fetch(`${at.origin}/kernels/acme/norm`)).text()).toContain(
    "&lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; &#39;more&#39;",
  );
});

test.each([
  "",
  "*",
  '"',
  'norm" OR "x',
  "repository:acme",
  "NEAR(a b)",
  "a AND",
  "(",
  "^norm",
  "-norm",
  "%",
  "🙂",
  "a".repeat(5000),
])("the search text %j is no syntax", async (query) => {
  const at = await startRegistry();
  await publish(at, makePackage());
  for (const path of ["/api/v1/search", "/"]) {
    const answer = await fetch(`${at.origin}${path}?q=${encodeURIComponent(query)}`);
    expect(answer.status).toBe(200);
    await answer.text();
  }
});
