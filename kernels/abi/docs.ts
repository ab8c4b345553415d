import { structLayout } from "./layout.ts";
import { dtypes, type Field, layouts, nodes, type OpName, opNames, ops } from "./ops.ts";

const list = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(", ");

function type(field: Field): string {
  if (field.kind !== "ptr") return `\`${field.kind}\``;
  return `\`${field.shape}\`, ${field.access}${field.nullable ? ", may be null" : ""}`;
}

function section(op: OpName): string {
  const { bytes, slots } = structLayout(op);
  const offsets = new Map(slots.map((slot) => [slot.name, slot.offset]));
  const covers = ops[op].covers.length === 0 ? "No node: it prepares weights." : `Covers ${list(ops[op].covers)}.`;
  return [
    `### ${op}`,
    "",
    `\`${ops[op].summary}\``,
    "",
    `${covers} Op number ${opNames.indexOf(op)}; \`kl_${op}_args\`, ${bytes} bytes.`,
    "",
    "| offset | field | type | |",
    "|---:|---|---|---|",
    ...ops[op].fields.map(
      (field) =>
        `| ${offsets.get(field.name)} | \`${field.name}\` | ${type(field)} | ${field.doc.replaceAll("|", "\\|")} |`,
    ),
    "",
  ].join("\n");
}

/** `docs/abi.md`: the ABI for people who write kernels. */
export function abiPage(): string {
  return `<!-- Generated from kernels/abi/ops.ts by \`npm run generate\`; do not edit. -->

# The kernel ABI, v0

A kernel library is an ELF shared object that exports one C function, \`kl_get_api\` (\`kernels/abi/kernlock.h\`). The host
calls it with the ABI number, opens one instance per device with a host table, and launches ops by their position in the
library's op table. The argument struct of each op is generated into \`kernels/abi/generated/ops.h\` from
\`kernels/abi/ops.ts\`; so is this page.

Version 0 is not stable: \`variant.json\` carries \`abi_build\`, the SHA-256 of \`kernlock.h\` followed by \`ops.h\`, and an
engine loads only libraries of its own build.

## Rules for every op

- Arguments are plain structs. The first member, \`uint32_t size\`, is the struct's size; a library refuses a size that it
  does not know with \`KL_ABI_MISMATCH\`. Members have their natural alignment; every gap is an explicit \`reserved\` member, zero.
- Sizes in the arguments are sizes of the bucket: grids depend on them alone. What really runs is read from arrays.
- A row whose \`row_seq\` is -1, a sampling row whose \`sample_rows\` is -1 and a sequence whose \`context\` is 0 are no-ops:
  nothing is read for them, nothing of theirs is written.
- Ops create no threads (the host offers \`parallel_for\`, which does not nest), allocate nothing, never synchronise and keep
  no state outside their instance.
- \`scratch\` is undefined on entry; \`state\` is zeroed once, when the program is built, and every launch leaves it zero.
  Their sizes follow from the rule in \`variant.json\`. Too little is answered with \`KL_WORKSPACE\`.
- An op that fails says why through \`report\` and returns a status; nothing after it in the program runs.
- Arrays begin at multiples of 16 bytes at least. Bytes are little endian. Weights are bf16 unless a layout says otherwise.

## Vocabulary

Nodes, in the order of a layer: ${list(nodes)}.

| dtype | number | C element |
|---|---:|---|
${Object.entries(dtypes)
  .map(([name, value]) => `| \`${name}\` | ${value} | \`KL_${name.toUpperCase()}\` |`)
  .join("\n")}

In shapes \`act\`, \`stream\` and \`kv\` stand for the dtypes given in \`dtype\`, \`stream_dtype\` and \`kv_dtype\`.

| weight layout | number | |
|---|---:|---|
| \`bf16.rows\` | ${layouts["bf16.rows"]} | row-major bf16, [out, in]; experts [expert, out, in] |
| \`mxfp4.rows\` | ${layouts["mxfp4.rows"]} | blocks u8 [expert, out, in / 32, 16], low nibble first; E8M0 scales u8 [expert, out, in / 32] |

The KV cache has layout \`paged64.hnd\`: [page][K, V][kv_head][64][head_dim] for each layer. Block tables are indexed by
absolute position / 64; -1 stands for a page that was freed because no window reaches it. A kernel with a window starts
reading at max(0, position + 1 - window).

Sampling draws one number per row: Philox4x32-10 with key (seed's low word, high word) and counter (counter's low word, high word, 0, 0) gives
x0; u = (x0 >> 8) / 2^24. The candidates are the \`top_k\` largest of softmax(logits / temperature), then of those the
shortest prefix by falling probability (lowest id first on ties) whose sum reaches \`top_p\`, at least one. The token is the first
of them whose cumulative probability exceeds u times their sum.

## Ops

${opNames.map(section).join("\n")}`;
}
