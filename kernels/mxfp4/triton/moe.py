"""Mixture of experts on MXFP4 blocks in the released layout, mode bf16. One expert's tokens are gathered, never padded.

Shapes, with T tokens, K chosen experts, H hidden, I intermediate, E experts of the layer, N of them held here:
x bf16[T, H]; ids i32[T, K]; weights f32[T, K]; blocks u8[N, rows, in / 32, 16], low nibble first; scales u8[N, rows, in / 32],
E8M0; up rows 2 i (gate) and 2 i + 1 (up). Scratch: list i32[E, T], count i32[E], h bf16[T K, I], y f32[T K, H].
A pair is t K + k. Every size is a multiple of 32; every result depends on its own row alone.
"""
import triton
import triton.language as tl


@triton.jit
def moe_sort(row_seq, ids, list, count, tokens, top_k, expert_begin, expert_end, CHUNK: tl.constexpr):
    """list[e, :count[e]] = pairs that chose expert e, in order. One program an expert."""
    expert = tl.program_id(0)
    found = 0
    if (expert >= expert_begin) & (expert < expert_end):
        pairs = tokens * top_k
        for start in range(0, pairs, CHUNK):
            pair = start + tl.arange(0, CHUNK)
            inside = pair < pairs
            live = tl.load(row_seq + pair // top_k, mask=inside, other=-1) >= 0
            chosen = tl.load(ids + pair, mask=inside & live, other=-1) == expert
            one = chosen.to(tl.int32)
            place = found + tl.cumsum(one, 0) - one
            # A token that names an expert twice would overflow the list; the second time is left out.
            tl.store(list + expert.to(tl.int64) * tokens + place, pair, mask=chosen & (place < tokens))
            found += tl.sum(one, 0)
    tl.store(count + expert, tl.minimum(found, tokens))


@triton.jit
def product(rows, live, blocks, scales, out_row, out_live, columns, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """f32[BM, BN] = rows . dequantised(out_row)^T; the sum runs over columns in steps of BK, always in the same order."""
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    k = tl.arange(0, BK)
    half = tl.arange(0, BK // 2)
    group = tl.arange(0, BK // 32)
    for start in range(0, columns, BK):
        a = tl.load(rows[:, None] + start + k[None, :], mask=live[:, None] & (start + k < columns)[None, :], other=0.0)
        packed = out_row[None, :] * (columns // 2) + start // 2 + half[:, None]
        w = tl.load(blocks + packed, mask=out_live[None, :] & (start // 2 + half < columns // 2)[:, None], other=0)
        scale = out_row[:, None] * (columns // 32) + start // 32 + group[None, :]
        s = tl.load(scales + scale, mask=out_live[:, None] & (start // 32 + group < columns // 32)[None, :], other=127)
        acc = tl.dot_scaled(a, None, "bf16", w, s, "e2m1", acc)
    return acc


@triton.jit
def moe_up(
    x, list, count, blocks, scales, bias, h, tokens, top_k, hidden, intermediate, expert_begin, alpha, limit,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):
    """h = swiglu(x W1^T + b1) for the pairs of one expert: program (tile of pairs, tile of h columns, expert)."""
    expert = tl.program_id(2)
    amount = tl.load(count + expert)
    if tl.program_id(0) * BM >= amount:
        return
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    live = at < amount
    pair = tl.load(list + expert.to(tl.int64) * tokens + at, mask=live, other=0)
    rows = x + (pair // top_k).to(tl.int64) * hidden
    local = (expert - expert_begin).to(tl.int64)
    row = tl.program_id(1) * 2 * BN + tl.arange(0, 2 * BN)
    row_live = row < 2 * intermediate
    out_row = local * 2 * intermediate + row
    acc = product(rows, live, blocks, scales, out_row, row_live, hidden, BM, 2 * BN, BK)
    acc += tl.load(bias + out_row, mask=row_live, other=0.0).to(tl.float32)[None, :]
    gate, up = tl.split(tl.reshape(acc, (BM, BN, 2)))
    gate = tl.minimum(gate, limit)
    up = tl.maximum(tl.minimum(up, limit), -limit)
    value = (up + 1) * gate / (1 + tl.exp(-alpha * gate))
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    place = pair.to(tl.int64)[:, None] * intermediate + column[None, :]
    tl.store(h + place, value.to(tl.bfloat16), mask=live[:, None] & (column < intermediate)[None, :])


@triton.jit
def moe_down(
    h, list, count, blocks, scales, bias, y, tokens, hidden, intermediate, expert_begin,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):
    """y = h W2^T + b2 for the pairs of one expert: program (tile of pairs, tile of y columns, expert)."""
    expert = tl.program_id(2)
    amount = tl.load(count + expert)
    if tl.program_id(0) * BM >= amount:
        return
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    live = at < amount
    pair = tl.load(list + expert.to(tl.int64) * tokens + at, mask=live, other=0).to(tl.int64)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    column_live = column < hidden
    out_row = (expert - expert_begin).to(tl.int64) * hidden + column
    acc = product(h + pair * intermediate, live, blocks, scales, out_row, column_live, intermediate, BM, BN, BK)
    acc += tl.load(bias + out_row, mask=column_live, other=0.0).to(tl.float32)[None, :]
    tl.store(y + pair[:, None] * hidden + column[None, :], acc, mask=live[:, None] & column_live[None, :])


@triton.jit
def moe_combine(
    row_seq, ids, weights, y, out, top_k, hidden, expert_begin, expert_end, BLOCK: tl.constexpr, ADD: tl.constexpr
):
    """out = sum over the chosen experts held here, in their order, of weight y; with ADD it is added to what is there."""
    token = tl.program_id(0)
    if tl.load(row_seq + token) < 0:
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = column < hidden
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in range(0, top_k):
        pair = token.to(tl.int64) * top_k + k
        expert = tl.load(ids + pair)
        held = (expert >= expert_begin) & (expert < expert_end)
        value = tl.load(y + pair * hidden + column, mask=live & held, other=0.0)
        total += tl.load(weights + pair) * value
    place = out + token.to(tl.int64) * hidden + column
    if ADD:
        total += tl.load(place, mask=live, other=0.0).to(tl.float32)
    tl.store(place, total.to(out.dtype.element_ty), mask=live)
