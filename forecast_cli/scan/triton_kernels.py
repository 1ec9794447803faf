"""The kernels behind `triton_.py`. Importing this file imports triton.

A lane follows one element of (batch, channel, height, width) through time; neighbouring lanes are
neighbours in memory. What is read comes as `triton_.Frames`, with any strides; what was written by us
is dense, (batch, time, row, column), and comes as a pointer.
"""

# mypy: disallow-untyped-defs=False
# The arguments of a kernel are pointers and blocks of lanes, for which there are no Python types.

import triton
import triton.language as tl


@triton.jit
def sigmoids(x):
    """sigmoid(x) and sigmoid(-x), each to full relative precision, by one exponential that cannot overflow."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small), tl.where(x >= 0, small, 1.0) / (1.0 + small)


@triton.jit
def log_sigmoid(x):
    """Finite for every x. What log1p would add is below the rounding of a logit: its absolute error is what counts."""
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def place(batches, rows, columns, block: tl.constexpr):
    """(batch, row, column) of the lanes of this program, and whether they exist. 64 bits, for fields beyond 2^31."""
    lane = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    element = lane % (rows * columns)
    batch = lane // (rows * columns)
    return batch, element // columns, element % columns, batch < batches


@triton.jit
def pointers(frames, batch, time, row, column):
    """Where the lanes' elements of the frame at `time` lie."""
    offset = batch * frames.batch + tl.cast(time, tl.int64) * frames.time
    return frames.start + offset + row * frames.row + column * frames.column


@triton.jit
def read(at, mask, state: tl.constexpr):
    return tl.load(at, mask=mask, other=0.0).to(state)


@triton.jit
def scan_forward(
    hidden, candidate, initial, forget, input_, batches, length, rows, columns, state: tl.constexpr, block: tl.constexpr
):
    """h_t = sigmoid(k_t) h_(t-1) + sigmoid(-k_t) g(candidate_t), written to `hidden`.

    k = logsigmoid(forget) - logsigmoid(input_); without an input gate, `forget` holds k itself.
    state: the type of the arithmetic; what is read and written has its own.
    """
    batch, row, column, exists = place(batches, rows, columns, block)
    forget_at = pointers(forget, batch, 0, row, column)
    if input_ is not None:
        input_at = pointers(input_, batch, 0, row, column)
    candidate_at = pointers(candidate, batch, 0, row, column)
    hidden_at = hidden + (batch * length * rows + row) * columns + column
    last = read(pointers(initial, batch, 0, row, column), exists, state)

    for _ in range(length):
        keep = read(forget_at, exists, state)
        if input_ is not None:
            keep = log_sigmoid(keep) - log_sigmoid(read(input_at, exists, state))
            input_at += input_.time
        decay, update = sigmoids(keep)
        x = read(candidate_at, exists, state)
        squashed, _rest = sigmoids(x)
        last = decay * last + update * tl.where(x >= 0, x + 0.5, squashed)
        tl.store(hidden_at, last, mask=exists)
        forget_at += forget.time
        candidate_at += candidate.time
        hidden_at += rows * columns


@triton.jit
def scan_backward(
    hidden,
    grad_hidden,
    candidate,
    initial,
    forget,
    input_,
    grad_candidate,
    grad_initial,
    grad_forget,
    grad_input,
    batches,
    length,
    rows,
    columns,
    state: tl.constexpr,
    block: tl.constexpr,
):
    """The gradients of `scan_forward`, from the last frame to the first; the formulas are those of `fused.py`."""
    batch, row, column, exists = place(batches, rows, columns, block)
    forget_at = pointers(forget, batch, length - 1, row, column)
    if input_ is not None:
        input_at = pointers(input_, batch, length - 1, row, column)
    candidate_at = pointers(candidate, batch, length - 1, row, column)
    grad_hidden_at = pointers(grad_hidden, batch, length - 1, row, column)
    origin = (batch * length * rows + row) * columns + column
    dense = origin + tl.cast(length - 1, tl.int64) * rows * columns
    first = read(pointers(initial, batch, 0, row, column), exists, state)

    # What reaches h_t: its own gradient, and what h_(t+1) hands back through its decay.
    handed_back = tl.full((block,), 0.0, state)
    for _ in range(length):
        flow = handed_back + read(grad_hidden_at, exists, state)
        forget_logit = read(forget_at, exists, state)
        if input_ is None:
            keep = forget_logit
        else:
            input_logit = read(input_at, exists, state)
            keep = log_sigmoid(forget_logit) - log_sigmoid(input_logit)
        decay, update = sigmoids(keep)
        x = read(candidate_at, exists, state)
        squashed, rest = sigmoids(x)
        later = dense > origin
        before = tl.where(later, read(hidden + dense - rows * columns, exists & later, state), first)

        tl.store(grad_candidate + dense, flow * update * tl.where(x >= 0, 1.0, squashed * rest), mask=exists)
        grad_keep = flow * decay * update * (before - tl.where(x >= 0, x + 0.5, squashed))
        if input_ is None:
            tl.store(grad_forget + dense, grad_keep, mask=exists)
        else:
            _open, closed = sigmoids(forget_logit)
            tl.store(grad_forget + dense, grad_keep * closed, mask=exists)
            _open, closed = sigmoids(input_logit)
            tl.store(grad_input + dense, -grad_keep * closed, mask=exists)
            input_at -= input_.time
        handed_back = flow * decay
        forget_at -= forget.time
        candidate_at -= candidate.time
        grad_hidden_at -= grad_hidden.time
        dense -= rows * columns

    tl.store(grad_initial + (batch * rows + row) * columns + column, handed_back, mask=exists)


INTERPRETED = not isinstance(scan_forward, triton.JITFunction)
