import { expect, test } from "vitest";
import { html } from "../pages/html.ts";
import { renderCard } from "../publish/card.ts";
import { makePackage, publish, startRegistry } from "./material.ts";

const hostile = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  '<a href="javascript:alert(1)">x</a>',
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](data:text/html;base64,PHNjcmlwdD4=)",
  "[x](//evil.example)",
  "[x](vbscript:x)",
  "![x](https://evil.example/x.png)",
  "<iframe src=https://evil.example></iframe>",
  "<style>body{display:none}</style>",
  '<p style="position:fixed">x</p>',
  '<form action="https://evil.example"><input name=token></form>',
  "<meta http-equiv=refresh content=0;url=https://evil.example>",
  "<base href=https://evil.example>",
  "<math><mi xlink:href=javascript:alert(1)>x</mi></math>",
  '<h1 id="main" class="skip" name="x">x</h1>',
  '<a href="https://ok.example" onclick="alert(1)" target="_blank">x</a>',
  "<scr<script>ipt>alert(1)</script>",
  "<!--><script>alert(1)</script>-->",
  "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
];

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
