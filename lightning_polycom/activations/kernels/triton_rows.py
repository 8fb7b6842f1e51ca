"""Building blocks of the Triton kernels: a row as chunks, its coefficients, its base, its sums.

A row is held as a tuple of chunks of BLOCK elements, all in fp32 from the load on, whatever the tensors' dtype.
Everything is inlined and every loop unrolled at compile time; names in capitals are compile-time constants.
"""

import triton
import triton.language as tl

# Chunks that are on their way while one is computed. The compiler moves no load before a store it cannot tell apart.
AHEAD = tl.constexpr(2)

# How a cache treats a chunk: as it likes, keep it for the second pass, or let it go after that.
ONCE, FIRST, LAST = tl.constexpr(""), tl.constexpr("evict_last"), tl.constexpr("evict_first")


@triton.jit
def load_chunk(row, i: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, CACHE: tl.constexpr):
    """Elements i * BLOCK and on of the row at pointer `row`; 0 beyond its end."""
    columns = i * BLOCK + tl.arange(0, BLOCK)
    if (i + 1) * BLOCK <= WIDTH:
        return tl.load(row + columns, eviction_policy=CACHE)
    else:
        return tl.load(row + columns, mask=columns < WIDTH, other=0.0, eviction_policy=CACHE)


@triton.jit
def load_ahead(chunks, row, i: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, CACHE: tl.constexpr):
    """The tuple of the row's loaded chunks, extended to AHEAD chunks beyond chunk i, or to the row's end."""
    total: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    end: tl.constexpr = i + AHEAD + 1 if i + AHEAD + 1 < total else total
    for j in tl.static_range(len(chunks), end):
        chunks = chunks + (load_chunk(row, j, WIDTH, BLOCK, CACHE),)
    return chunks


@triton.jit
def store_chunk(row, i: tl.constexpr, value, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Rounds to the tensor's dtype and writes."""
    columns = i * BLOCK + tl.arange(0, BLOCK)
    value = value.to(row.dtype.element_ty)
    if (i + 1) * BLOCK <= WIDTH:
        tl.store(row + columns, value)
    else:
        tl.store(row + columns, value, mask=columns < WIDTH)


@triton.jit
def load_coefficients(pointer, experts, num_experts, row, ORDER: tl.constexpr, PER_EXPERT: tl.constexpr):
    """The row's ORDER coefficients; per expert they are (ORDER, num_experts), and 0 for a row of no expert."""
    a = ()
    for p in tl.static_range(ORDER):
        if PER_EXPERT:
            expert = tl.load(experts + row)
            a = a + (tl.load(pointer + p * num_experts + expert, mask=expert < num_experts, other=0.0).to(tl.float32),)
        else:
            a = a + (tl.load(pointer + p).to(tl.float32),)
    return a


@triton.jit
def load_bias(pointer, experts, num_experts, row, HAS_BIAS: tl.constexpr, PER_EXPERT: tl.constexpr):
    """The row's constant term, 0 if there is none."""
    if not HAS_BIAS:
        return 0.0
    elif PER_EXPERT:
        expert = tl.load(experts + row)
        return tl.load(pointer + expert, mask=expert < num_experts, other=0.0).to(tl.float32)
    else:
        return tl.load(pointer).to(tl.float32)


@triton.jit
def apply_base(x, slope, BASE: tl.constexpr):
    """z = base(x); nan stays nan."""
    if BASE == "relu":
        return tl.where(x <= 0, 0.0, x)
    elif BASE == "prelu":
        return tl.where(x > 0, x, slope * x)
    else:
        return x


@triton.jit
def horner(z, c):
    """sum_p c_p z^(p-1) for a tuple of numbers."""
    y = c[len(c) - 1] + tl.zeros_like(z)
    for p in tl.static_range(len(c) - 1):
        y = y * z + c[len(c) - 2 - p]
    return y


@triton.jit
def scaled(r, c):
    """The products r_p c_p of two tuples."""
    products = ()
    for p in tl.static_range(len(c)):
        products = products + (r[p] * c[p],)
    return products


@triton.jit
def derivative(c):
    """The coefficients p c_p of the derivative."""
    slopes = ()
    for p in tl.static_range(len(c)):
        slopes = slopes + (c[p] * (p + 1),)
    return slopes


@triton.jit
def add_projections(lanes, g, z, ORDER: tl.constexpr):
    """Adds g z^p to the partial sums of every lane, p = 0..ORDER."""
    sums, product = (lanes[0] + g,), g
    for p in tl.static_range(ORDER):
        product = product * z
        sums = sums + (lanes[p + 1] + product,)
    return sums


@triton.jit
def _add1(a0, b0):
    return a0 + b0


@triton.jit
def _add2(a0, a1, b0, b1):
    return a0 + b0, a1 + b1


@triton.jit
def _add3(a0, a1, a2, b0, b1, b2):
    return a0 + b0, a1 + b1, a2 + b2


@triton.jit
def _add4(a0, a1, a2, a3, b0, b1, b2, b3):
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3


@triton.jit
def _add5(a0, a1, a2, a3, a4, b0, b1, b2, b3, b4):
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3, a4 + b4


@triton.jit
def _add6(a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5):
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3, a4 + b4, a5 + b5


@triton.jit
def row_sums(lanes):
    """A tuple of 1 to 6 (BLOCK,) tensors -> the tuple of their sums, in one exchange between the threads."""
    if len(lanes) == 1:
        return (tl.reduce(lanes[0], 0, _add1),)
    elif len(lanes) == 2:
        return tl.reduce(lanes, 0, _add2)
    elif len(lanes) == 3:
        return tl.reduce(lanes, 0, _add3)
    elif len(lanes) == 4:
        return tl.reduce(lanes, 0, _add4)
    elif len(lanes) == 5:
        return tl.reduce(lanes, 0, _add5)
    else:
        return tl.reduce(lanes, 0, _add6)
