/* Gates and recurrence of the minimal cells in one pass over time, and its reverse; see native.py.

   Compiled twice, with REAL, EXP and NAME(...) defined for float and double. `packed` holds the logits of one or two gates and the
   candidate; elements of a frame lie in `outer` runs of at most `inner`. Runs are independent of each other, so threads share them. */

#ifndef REAL
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP, UPDATE, FORGET_INPUT };
enum { CHUNK = 16384 }; /* elements that march through time together: their states stay near the processor */

/* elements: of a frame and a part. part, run: distance in `packed` between parts, and between runs of one part. half: packed is bfloat16. */
typedef struct {
    long batch, time, elements, outer, inner, part, run;
    int kind, half, threads;
} Layout;

/* Runs of a chunk: as many as stay near the processor, and no more than leave something for every thread. */
static long runs_together(const Layout *l) {
    const long near = l->inner < CHUNK ? CHUNK / l->inner : 1, shared = (l->outer + l->threads - 1) / l->threads;
    return near < shared || l->batch >= l->threads ? near : shared;
}

/* exp(x) for x <= 0 to 2 ulp, branch-free so that compilers vectorise it; below -87 the smallest normal number. */
static inline float exp_float(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return y * scale;
}

static inline void widen(const uint16_t *from, float *to, long count) {
    for (long i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}

static inline void narrow(const float *from, uint16_t *to, long count) {
    for (long i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        /* To nearest, ties to even; not a number stays one. */
        const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 64 : rounded);
    }
}

#define REAL float
#define EXP exp_float
#define NAME(x) x##_float
#include "recurrence.c"
#undef REAL
#undef EXP
#undef NAME
#define REAL double
#define EXP exp
#define NAME(x) x##_double
#include "recurrence.c"
#else

/* decay = a and update = 1 - a, each from its own side so that neither loses digits; forgets, inputs: d log a / d gate over update. */
typedef struct { REAL decay, update, of_forget, of_input; } NAME(Gate);

static inline NAME(Gate) NAME(gate_of_one)(REAL keep) {
    const REAL e = EXP(keep < 0 ? keep : -keep), s = 1 / (1 + e), t = e * s;
    const NAME(Gate) found = { keep < 0 ? t : s, keep < 0 ? s : t, 1, 0 };
    return found;
}

/* sigmoid(f) / (sigmoid(f) + sigmoid(i)) with everything scaled by the largest of exp(-f), exp(-i), 1: nothing overflows. */
static inline NAME(Gate) NAME(gate_of_two)(REAL forget, REAL input) {
    REAL most = -forget > -input ? -forget : -input;
    most = most < 0 ? 0 : most;
    const REAL one = EXP(-most), f = EXP(-forget - most), i = EXP(-input - most);
    const REAL inverse = 1 / (2 * one + f + i);
    const NAME(Gate) found = { (one + i) * inverse, (one + f) * inverse, f / (one + f), i / (one + i) };
    return found;
}

static inline NAME(Gate) NAME(gate)(int kind, REAL first, REAL second) {
    return kind == FORGET_INPUT ? NAME(gate_of_two)(first, second) : NAME(gate_of_one)(kind == UPDATE ? -first : first);
}

/* g(x) = x + 1/2 for x >= 0, sigmoid(x) below; and its slope. */
static inline REAL NAME(g)(REAL x, REAL *slope) {
    const REAL e = EXP(x < 0 ? x : -x), s = 1 / (1 + e);
    *slope = x >= 0 ? 1 : e * s * s;
    return x >= 0 ? x + (REAL)0.5 : e * s;
}

static inline void NAME(forward_run)(int kind, const REAL *restrict first, const REAL *restrict second, const REAL *restrict candidate,
                                     const REAL *restrict before, REAL *restrict hidden, long count) {
    for (long i = 0; i < count; i++) {
        REAL slope;
        const NAME(Gate) gate = NAME(gate)(kind, first[i], second[i]);
        hidden[i] = gate.decay * before[i] + gate.update * NAME(g)(candidate[i], &slope);
    }
}

/* flow: what reaches h_t from itself and, in `carry`, from later frames. */
static inline void NAME(backward_run)(int kind, const REAL *restrict first, const REAL *restrict second, const REAL *restrict candidate,
                                      const REAL *restrict before, const REAL *restrict grad, REAL *restrict carry,
                                      REAL *restrict to_first, REAL *restrict to_second, REAL *restrict to_candidate, long count) {
    for (long i = 0; i < count; i++) {
        REAL slope;
        const NAME(Gate) gate = NAME(gate)(kind, first[i], second[i]);
        const REAL value = NAME(g)(candidate[i], &slope), flow = grad[i] + carry[i];
        const REAL to_keep = flow * gate.decay * gate.update * (before[i] - value);
        carry[i] = flow * gate.decay;
        to_candidate[i] = flow * gate.update * slope;
        to_first[i] = kind == UPDATE ? -to_keep : to_keep * gate.of_forget;
        if (kind == FORGET_INPUT) to_second[i] = -to_keep * gate.of_input;
    }
}

/* A run of each part as REAL: where it lies, or widened into scratch. */
static inline void NAME(parts)(const Layout *l, const void *packed, long at, long count, REAL *scratch, const REAL *found[3]) {
    const int parts = l->kind == FORGET_INPUT ? 3 : 2;
    for (int p = 0; p < parts; p++) {
        if (l->half) {
            widen((const uint16_t *)packed + at + p * l->part, (float *)(scratch + p * l->inner), count);
            found[p] = scratch + p * l->inner;
        } else
            found[p] = (const REAL *)packed + at + p * l->part;
    }
    if (parts == 2) found[2] = found[1];
}

static inline long NAME(length)(const Layout *l, long o) {
    const long left = l->elements - o * l->inner;
    return left < l->inner ? left : l->inner;
}

/* KIND is a constant in each call, so that loops over a run have no branches. */
#define FORWARD_RUN(KIND) NAME(forward_run)(KIND, p[0], p[1], p[2], before, after, count)
#define BACKWARD_RUN(KIND) NAME(backward_run)(KIND, p[0], p[1], p[2], before, grad, kept, to[0], to[1], to[2], count)

int NAME(scan_forward)(const Layout *l, const void *packed, const REAL *initial, REAL *hidden) {
    const long parts = l->kind == FORGET_INPUT ? 3 : 2, frame = l->elements, together = runs_together(l);
    const long chunks = (l->outer + together - 1) / together;
    int failed = 0;
#pragma omp parallel num_threads(l->threads) if (l->threads > 1)
    {
        REAL *scratch = malloc(3 * l->inner * sizeof(REAL));
        if (!scratch) failed = 1;
#pragma omp for collapse(2) schedule(static)
        for (long b = 0; b < l->batch; b++)
            for (long c = 0; c < chunks; c++) {
                if (!scratch) continue;
                const long end = (c + 1) * together < l->outer ? (c + 1) * together : l->outer;
                for (long t = 0; t < l->time; t++) {
                    const long here = b * l->time + t;
                    for (long o = c * together; o < end; o++) {
                        const REAL *p[3], *before = t ? hidden + (here - 1) * frame + o * l->inner : initial + b * frame + o * l->inner;
                        REAL *after = hidden + here * frame + o * l->inner;
                        const long count = NAME(length)(l, o);
                        NAME(parts)(l, packed, here * parts * frame + o * l->run, count, scratch, p);
                        if (l->kind == FORGET_INPUT) FORWARD_RUN(FORGET_INPUT);
                        else if (l->kind == UPDATE) FORWARD_RUN(UPDATE);
                        else FORWARD_RUN(KEEP);
                    }
                }
            }
        free(scratch);
    }
    return failed;
}

int NAME(scan_backward)(const Layout *l, const void *packed, const REAL *initial, const REAL *hidden, const REAL *grad_hidden,
                        void *grad_packed, REAL *grad_initial) {
    const long parts = l->kind == FORGET_INPUT ? 3 : 2, frame = l->elements, together = runs_together(l);
    const long chunks = (l->outer + together - 1) / together;
    int failed = 0;
#pragma omp parallel num_threads(l->threads) if (l->threads > 1)
    {
        REAL *scratch = malloc(6 * l->inner * sizeof(REAL));
        if (!scratch) failed = 1;
#pragma omp for collapse(2) schedule(static)
        for (long b = 0; b < l->batch; b++)
            for (long c = 0; c < chunks; c++) {
                if (!scratch) continue;
                const long end = (c + 1) * together < l->outer ? (c + 1) * together : l->outer;
                REAL *carry = grad_initial + b * frame;
                for (long o = c * together; o < end; o++) memset(carry + o * l->inner, 0, NAME(length)(l, o) * sizeof(REAL));
                for (long t = l->time - 1; t >= 0; t--) {
                    const long here = b * l->time + t;
                    for (long o = c * together; o < end; o++) {
                        const REAL *p[3], *before = t ? hidden + (here - 1) * frame + o * l->inner : initial + b * frame + o * l->inner;
                        const REAL *grad = grad_hidden + here * frame + o * l->inner;
                        REAL *to[3] = { 0 }, *kept = carry + o * l->inner;
                        const long count = NAME(length)(l, o), at = here * parts * frame + o * l->run;
                        NAME(parts)(l, packed, at, count, scratch, p);
                        for (int k = 0; k < parts; k++)
                            to[k] = l->half ? scratch + (3 + k) * l->inner : (REAL *)grad_packed + at + k * l->part;
                        if (parts == 2) to[2] = to[1];
                        if (l->kind == FORGET_INPUT) BACKWARD_RUN(FORGET_INPUT);
                        else if (l->kind == UPDATE) BACKWARD_RUN(UPDATE);
                        else BACKWARD_RUN(KEEP);
                        if (l->half)
                            for (int k = 0; k < parts; k++)
                                narrow((const float *)to[k], (uint16_t *)grad_packed + at + k * l->part, count);
                    }
                }
            }
        free(scratch);
    }
    return failed;
}
#undef FORWARD_RUN
#undef BACKWARD_RUN
#endif
