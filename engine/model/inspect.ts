import { basename } from "node:path";
import type { ExpertFormat, Inspection, Model, WeightGroup } from "./types.ts";
import { type ExpectedTensor, expectedTensors } from "./weights.ts";

const kinds: readonly WeightGroup["kind"][] = ["embedding", "attention", "router", "experts", "norms", "lm_head"];

/** What a checkpoint is, what it declares about quantisation, and whether its files agree. Reads nothing further. */
export function inspectModel(model: Model): Inspection {
  const { config } = model;
  const expected = expectedTensors(config, model.expertFormat);
  const weights = kinds.map((kind) => group(kind, model, expected)).filter((weightGroup) => weightGroup.tensors > 0);
  const total = sum(weights, (weightGroup) => weightGroup.parameters);
  const bytes = sum(weights, (weightGroup) => weightGroup.bytes);
  return {
    name: model.name,
    architecture: config.architecture,
    config,
    quantization: quantization(model),
    parameters: { total, activePerToken: activeParameters(model, weights) },
    bytes: { total: bytes, dequantized: 2 * total },
    weights,
    files: model.files.map(({ path, size }) => ({ name: basename(path), size })),
    tokenizer: model.tokenizerFile !== null,
    template: model.template !== null,
    generation: model.generation,
  };
}

function group(kind: WeightGroup["kind"], model: Model, expected: ReadonlyMap<string, ExpectedTensor>): WeightGroup {
  const members = [...expected].filter(([, tensor]) => tensor.kind === kind);
  const formats = members.map(([, { dtype }]) => (dtype === "U8" ? "MXFP4" : dtype));
  return {
    kind,
    tensors: members.length,
    parameters: sum(members, ([, { parameters }]) => parameters),
    bytes: sum(members, ([name]) => model.tensors.get(name)!.bytes),
    formats: [...new Set(formats)].sort().reverse(),
  };
}

/** Weights that one token multiplies with: its top_k experts, and everything else but the table that it is looked up in. */
function activeParameters(model: Model, weights: readonly WeightGroup[]): number {
  const { experts, topK, tied } = model.config;
  return sum(weights, ({ kind, parameters }) => {
    if (kind === "experts") return (parameters / experts) * topK;
    return kind === "embedding" && !tied ? 0 : parameters;
  });
}

const formatNames: Readonly<Record<ExpertFormat, string>> = {
  mxfp4: "MXFP4 blocks and scales (4.25 bits a weight)",
  "bf16.out_in": "bf16, [expert, out, in]",
  "bf16.in_out": "bf16, [expert, in, out]",
};

function quantization(model: Model): Inspection["quantization"] {
  const declared = model.config.quantization?.method ?? null;
  const found = model.expertFormat;
  const agree = (declared === "mxfp4") === (found === "mxfp4");
  const says = declared === null ? "config.json declares no quantisation" : `config.json declares ${declared}`;
  const text = agree
    ? `${says}, and the experts are ${formatNames[found]}: they agree.`
    : `${says}, but the experts are ${formatNames[found]}: what the files hold counts.`;
  return { declared, notConverted: model.config.quantization?.notConverted ?? [], found, agree, text };
}

/** The same in words, several lines. */
export function formatInspection(inspection: Inspection): string {
  const { config, parameters, bytes, generation } = inspection;
  const sliding = config.layerTypes.filter((type) => type === "sliding").length;
  const { rope } = config;
  const yarn =
    rope.kind === "yarn"
      ? `YaRN, factor ${rope.factor} over ${count(rope.originalContext)} positions, truncate ${rope.truncate}`
      : "plain";
  const lines = [
    ["model", `${inspection.name} (${inspection.architecture})`],
    ["quantisation", inspection.quantization.text],
    ["parameters", `${count(parameters.total)} in all, ${count(parameters.activePerToken)} a token`],
    ["bytes", `${size(bytes.total)} as stored, ${size(bytes.dequantized)} with all weights in bf16`],
    [
      "layers",
      `${config.layers} (${sliding} sliding with a window of ${config.slidingWindow}, ${config.layers - sliding} full)`,
    ],
    ["width", `${config.hidden}, ${config.heads} heads and ${config.kvHeads} KV heads of ${config.headDim}`],
    [
      "experts",
      `${config.experts} of width ${config.intermediate}, ${config.topK} a token, SwiGLU limit ${config.swigluLimit}`,
    ],
    ["positions", `${count(config.maxPositions)}, RoPE base ${config.rope.theta}, ${yarn}`],
    ["vocabulary", count(config.vocab)],
    ["stop ids", generation.stopIds.length === 0 ? "none" : generation.stopIds.join(", ")],
    ["sampling", sampling(inspection)],
    ["tokenizer", inspection.tokenizer ? "tokenizer.json" : "none: token ids only"],
    ["chat template", inspection.template ? "yes" : "none"],
    ...inspection.weights.map((w) => [
      `  ${w.kind}`,
      `${count(w.tensors)} tensors, ${count(w.parameters)} parameters, ${size(w.bytes)}, ${w.formats.join(" and ")}`,
    ]),
    ...inspection.files.map((file) => [`  ${file.name}`, size(file.size)]),
  ] as [string, string][];
  const width = Math.max(...lines.map(([name]) => name.length));
  return `${lines.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join("\n")}\n`;
}

function sampling({ generation }: Inspection): string {
  if (!generation.doSample) return "greedy";
  const named = { temperature: generation.temperature, "top-p": generation.topP, "top-k": generation.topK };
  const given = Object.entries(named).filter(([, value]) => value !== null);
  return ["sampled", ...given.map(([name, value]) => `${name} ${value}`)].join(", ");
}

function count(n: number): string {
  return Math.round(n).toLocaleString("en-US");
}

function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  const step = bytes === 0 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
  return step === 0 ? `${bytes} bytes` : `${(bytes / 1000 ** step).toFixed(2)} ${units[step]}`;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}
