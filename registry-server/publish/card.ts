import { marked } from "marked";
import sanitizeHtml from "sanitize-html";

/**
 * A kernel card, Markdown by whoever published it, as HTML that is safe to put into a page: text, lists, tables, code
 * and links. No images (they would call other hosts), no styles, no ids; its headings start below the page's own.
 */
export function renderCard(markdown: string): string {
  const html = marked.parse(markdown, { async: false, gfm: true });
  return sanitizeHtml(html, {
    allowedTags: [
      ..."h2 h3 h4 h5 h6 p ul ol li blockquote pre code em strong del a hr br".split(" "),
      ..."table thead tbody tr th td".split(" "),
    ],
    allowedAttributes: { a: ["href", "rel"], th: ["align"], td: ["align"], ol: ["start"] },
    allowedSchemes: ["https", "http", "mailto"],
    allowProtocolRelative: false,
    transformTags: {
      h1: "h2",
      h2: "h3",
      h3: "h4",
      h4: "h5",
      h5: "h6",
      // A link that leads nowhere a reader may be sent is only its text.
      a: (tagName, { href = "" }) =>
        /^(https?:\/\/|mailto:)/i.test(href)
          ? { tagName, attribs: { href, rel: "nofollow noopener noreferrer" } }
          : { tagName: "span", attribs: {} },
    },
  });
}

/** The words of a card, for search. */
export function cardText(html: string): string {
  return sanitizeHtml(html, { allowedTags: [], allowedAttributes: {} }).slice(0, 100_000);
}
