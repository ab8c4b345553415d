import { type Slot, structLayout } from "./layout.ts";
import { dtypes, type Field, layouts, nodes, type OpName, opNames, ops } from "./ops.ts";

/** C element types; activations, stream, cache and weights with a layout are untyped, a dtype argument says what they are. */
const elements: Readonly<Record<string, string>> = {
  u8: "uint8_t",
  bf16: "uint16_t",
  i32: "int32_t",
  f32: "float",
  u64: "uint64_t",
};
const scalars = { u32: "uint32_t", i32: "int32_t", f32: "float", u64: "uint64_t" } as const;

const constant = (name: string) => name.toUpperCase().replaceAll(/[^A-Z0-9]/g, "_");
const argsType = (op: OpName) => `kl_${op}_args`;

function declaration(slot: Slot, field: Field | undefined): string {
  if (slot.kind === "padding") return `uint32_t ${slot.name};`;
  if (slot.kind !== "ptr") return `${scalars[slot.kind]} ${slot.name};`;
  if (field?.kind !== "ptr") throw new Error(`no field ${slot.name}`);
  const element = elements[field.shape.slice(0, field.shape.indexOf("["))] ?? "void";
  return `${field.access === "in" ? "const " : ""}${element}* ${slot.name};`;
}

function remark(field: Field | undefined): string {
  if (field === undefined) return "";
  const text = field.kind === "ptr" ? [field.shape, field.nullable ? "or null" : "", field.doc] : [field.doc];
  return ` /* ${text.filter(Boolean).join("; ")} */`;
}

function struct(op: OpName): string {
  const { slots, bytes } = structLayout(op);
  const fields = new Map<string, Field>(ops[op].fields.map((field) => [field.name, field]));
  const covers = ops[op].covers.length === 0 ? "no node" : ops[op].covers.join(", ");
  const type = argsType(op);
  return [
    `/* ${op} (covers ${covers}): ${ops[op].summary} */`,
    `typedef struct ${type} {`,
    ...slots.map((slot) => `  ${declaration(slot, fields.get(slot.name))}${remark(fields.get(slot.name))}`),
    `} ${type};`,
    `KL_STATIC_ASSERT(sizeof(${type}) == ${bytes}, "size of ${type}");`,
    ...slots.map(
      ({ name, offset }) => `KL_STATIC_ASSERT(offsetof(${type}, ${name}) == ${offset}, "offset of ${type}.${name}");`,
    ),
    "",
  ].join("\n");
}

const enumeration = (entries: readonly (readonly [string, number])[]) =>
  ["enum {", ...entries.map(([name, value]) => `  ${name} = ${value},`), "};"].join("\n");

/** `ops.h`: numbers and argument structs of every op, for C11 and C++. */
export function opsHeader(): string {
  return `/* Generated from ops.ts by \`npm run generate\`; do not edit. */
#ifndef KERNLOCK_OPS_H
#define KERNLOCK_OPS_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KL_STATIC_ASSERT(condition, text) static_assert(condition, text)
extern "C" {
#else
#define KL_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
KL_STATIC_ASSERT(sizeof(void*) == 8, "the ABI is for 64-bit machines");

/* Element types. */
${enumeration(Object.entries(dtypes).map(([name, value]) => [`KL_${constant(name)}`, value]))}

/* Weight layouts. */
${enumeration(Object.entries(layouts).map(([name, value]) => [`KL_LAYOUT_${constant(name)}`, value]))}

/* Semantic nodes of a model, in the order of a layer. */
${enumeration(nodes.map((name, index) => [`KL_NODE_${constant(name)}`, index]))}

/* Op numbers. */
${enumeration([
  ...opNames.map((name, index) => [`KL_OP_${constant(name)}`, index] as const),
  ["KL_OP_COUNT", opNames.length],
])}

/* X(constant, name, arguments' struct) for every op, by number. */
#define KL_FOR_EACH_OP(X) \\
${opNames.map((name) => `  X(KL_OP_${constant(name)}, ${name}, ${argsType(name)})`).join(" \\\n")}

${opNames.map(struct).join("\n")}
#ifdef __cplusplus
}
#endif
#endif
`;
}
