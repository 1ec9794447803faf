/* Steps of shallow water and their adjoint, for one precision; see wave_adjoint.py for the formulas.

   Compiled twice, with REAL and NAME(...) defined for float and double. Fields are (height, width), rows contiguous. A state
   is eta, u, v, `plane` apart: eta and the depth at centres, u on the east face of its cell, v on the north face. Walls are
   faces where the velocity is 0. Buffers have a margin of zeros on the west or on the south. */

#ifndef REAL
#include <stdlib.h>
#if defined(__SSE__)
#include <xmmintrin.h>
/* Ahead of a wave the water moves by numbers too small to matter and ten times slower to compute with: they become 0. */
static unsigned flush(void) { unsigned before = _mm_getcsr(); _mm_setcsr(before | 0x8040); return before; }
static void restore(unsigned before) { _mm_setcsr(before); }
#else
static unsigned flush(void) { return 0; }
static void restore(unsigned before) { (void)before; }
#endif
#define REAL double
#define NAME(x) x##_double
#include "waves.c"
#undef REAL
#undef NAME
#define REAL float
#define NAME(x) x##_float
#include "waves.c"
#else

/* share_out, share_in: of the cell on the west or south side in the water of a face that flows out of it, and into it: 1 and 0 upwind, a
   half each centred. force: g dt / 2 dy, g dt / 2 dx; flow: dt / dy, dt / dx; keep: 1 - dt friction / 2; per row: turn = a / 4, share = 2 / (1 + a^2),
   at centres (u) and on north faces (v). */
typedef struct {
    long height, width, plane;
    REAL share_out, share_in, force_y, force_x, flow_y, flow_x, keep;
    const REAL *turn_u, *share_u, *turn_v, *share_v, *depth;
} NAME(Waves);

static void NAME(step)(const NAME(Waves) w, const REAL *now, REAL *later, REAL *buffer) {
    const long height = w.height, width = w.width, wide = width + 1;
    const REAL *eta = now, *u = now + w.plane, *v = u + w.plane;
    REAL *eta1 = later, *u1 = later + w.plane, *v1 = u1 + w.plane;
    REAL *uh = buffer + 1, *vh = buffer + height * wide + width; /* uh[i * wide - 1] and vh[j - width] are 0 */
    REAL *east = vh + height * width + 1, *south = east + wide, *north = south + width;

    for (long i = 0; i < height; i++) {
        const REAL *e = eta + i * width;
        uh[i * wide - 1] = uh[i * wide + width - 1] = 0;
        for (long j = 0; j < width - 1; j++)
            uh[i * wide + j] = w.keep * u[i * width + j] - w.force_x * (e[j + 1] - e[j]);
    }
    for (long j = 0; j < width; j++) vh[j - width] = vh[(height - 1) * width + j] = 0;
    for (long k = 0; k < (height - 1) * width; k++)
        vh[k] = w.keep * v[k] - w.force_y * (eta[k + width] - eta[k]);

    for (long i = 0; i < height; i++) {
        const REAL turn = w.turn_u[i], share = w.share_u[i];
        const REAL *n = vh + i * width, *s = n - width, *here = uh + i * wide;
        for (long j = 0; j < width - 1; j++)
            u1[i * width + j] = share * (here[j] + turn * ((s[j] + n[j]) + (s[j + 1] + n[j + 1]))) - u[i * width + j];
        u1[i * width + width - 1] = 0;
    }
    for (long i = 0; i < height - 1; i++) {
        const REAL turn = w.turn_v[i], share = w.share_v[i];
        const REAL *here = vh + i * width, *below = uh + i * wide, *above = below + wide;
        for (long j = 0; j < width; j++)
            v1[i * width + j] = share * (here[j] - turn * ((below[j - 1] + below[j]) + (above[j - 1] + above[j]))) - v[i * width + j];
    }
    for (long j = 0; j < width; j++) v1[(height - 1) * width + j] = south[j] = 0;

    east[-1] = east[width - 1] = 0;
    for (long i = 0; i < height; i++) {
        const REAL *e = eta + i * width, *h = w.depth + i * width;
        const REAL *a = u1 + i * width, *b = v1 + i * width;
        for (long j = 0; j < width - 1; j++) {
            const REAL s = a[j] > 0 ? w.share_out : w.share_in;
            east[j] = a[j] * (s * (e[j] + h[j]) + (1 - s) * (e[j + 1] + h[j + 1]));
        }
        if (i < height - 1)
            for (long j = 0; j < width; j++) {
                const REAL s = b[j] > 0 ? w.share_out : w.share_in;
                north[j] = b[j] * (s * (e[j] + h[j]) + (1 - s) * (e[j + width] + h[j + width]));
            }
        else
            for (long j = 0; j < width; j++) north[j] = 0;
        for (long j = 0; j < width; j++)
            eta1[i * width + j] = e[j] - w.flow_x * (east[j] - east[j - 1]) - w.flow_y * (north[j] - south[j]);
        REAL *swap = south;
        south = north;
        north = swap;
    }
}

/* The sensitivities `to` a later state become those to the state before; that to the logarithm of gravity is added if wanted. */
static void NAME(back)(const NAME(Waves) w, const REAL *now, const REAL *later, REAL *to, REAL *to_depth, double *to_gravity, REAL *buffer) {
    const long height = w.height, width = w.width, wide = width + 1, tall = height + 1;
    const REAL *eta = now, *u1 = later + w.plane, *v1 = u1 + w.plane;
    REAL *to_eta = to, *to_u = to + w.plane, *to_v = to_u + w.plane;
    /* What flows out of the cell behind and into the one ahead, on east faces (west margin) and north faces (south margin). */
    REAL *east_behind = buffer + 1, *east_ahead = east_behind + height * wide;
    REAL *north_behind = east_ahead + height * wide + width, *north_ahead = north_behind + tall * width;
    REAL *half_u = north_ahead + tall * width + 1, *half_v = half_u + height * wide + width;
    REAL *turned_u = half_v + tall * width, *turned_v = turned_u + height * wide + width;

    for (long i = 0; i < height; i++) {
        const REAL *e = eta + i * width, *h = w.depth + i * width, *l = to_eta + i * width;
        const REAL turn = w.turn_u[i], share = w.share_u[i];
        const long r = i * wide;
#pragma GCC ivdep
        for (long j = 0; j < width - 1; j++) {
            const REAL velocity = u1[i * width + j], drop = w.flow_x * (l[j + 1] - l[j]), moved = drop * velocity;
            const REAL s = velocity > 0 ? w.share_out : w.share_in;
            const REAL total = to_u[i * width + j]
                + drop * (s * (e[j] + h[j]) + (1 - s) * (e[j + 1] + h[j + 1]));
            to_u[i * width + j] = total;
            east_behind[r + j] = s * moved;
            east_ahead[r + j] = (1 - s) * moved;
            half_u[r + j] = share * total;
            turned_u[r + j] = turn * (share * total);
        }
        east_behind[r + width - 1] = east_ahead[r + width - 1] = east_ahead[r - 1] = 0;
        half_u[r + width - 1] = half_u[r - 1] = turned_u[r + width - 1] = turned_u[r - 1] = 0;
    }
    for (long i = 0; i < height - 1; i++) {
        const REAL *e = eta + i * width, *h = w.depth + i * width, *l = to_eta + i * width;
        const REAL turn = w.turn_v[i], share = w.share_v[i];
        const long r = i * width;
#pragma GCC ivdep
        for (long j = 0; j < width; j++) {
            const REAL velocity = v1[r + j], drop = w.flow_y * (l[j + width] - l[j]), moved = drop * velocity;
            const REAL s = velocity > 0 ? w.share_out : w.share_in;
            const REAL total = to_v[r + j]
                + drop * (s * (e[j] + h[j]) + (1 - s) * (e[j + width] + h[j + width]));
            to_v[r + j] = total;
            north_behind[r + j] = s * moved;
            north_ahead[r + j] = (1 - s) * moved;
            half_v[r + j] = share * total;
            turned_v[r + j] = turn * (share * total);
        }
    }
    const long top = (height - 1) * width;
    for (long j = 0; j < width; j++) {
        north_behind[top + j] = north_ahead[top + j] = north_ahead[j - width] = 0;
        half_v[top + j] = half_v[j - width] = turned_v[top + j] = turned_v[j - width] = 0;
    }

    /* half_u: the sensitivity to uh; turned_u is still needed whole. */
    for (long i = 0; i < height; i++) {
        const REAL *n = turned_v + i * width, *s = n - width, *e = eta + i * width;
        REAL *here = half_u + i * wide;
        for (long j = 0; j < width - 1; j++) {
            here[j] -= (s[j] + n[j]) + (s[j + 1] + n[j + 1]);
            to_u[i * width + j] = w.keep * here[j] - to_u[i * width + j];
        }
        for (long j = 0; to_gravity && j < width - 1; j++) *to_gravity -= (double)w.force_x * here[j] * (e[j + 1] - e[j]);
        to_u[i * width + width - 1] = 0;
    }
    for (long i = 0; i < height - 1; i++) {
        const REAL *below = turned_u + i * wide, *above = below + wide, *e = eta + i * width;
        REAL *here = half_v + i * width;
        for (long j = 0; j < width; j++) {
            here[j] += (below[j - 1] + below[j]) + (above[j - 1] + above[j]);
            to_v[i * width + j] = w.keep * here[j] - to_v[i * width + j];
        }
        for (long j = 0; to_gravity && j < width; j++) *to_gravity -= (double)w.force_y * here[j] * (e[j + width] - e[j]);
    }
    for (long j = 0; j < width; j++) to_v[top + j] = 0;

    for (long i = 0; i < height; i++) {
        const long r = i * wide, k = i * width;
        for (long j = 0; j < width; j++) {
            const REAL water = (east_behind[r + j] + east_ahead[r + j - 1]) + (north_behind[k + j] + north_ahead[k + j - width]);
            to_depth[k + j] += water;
            to_eta[k + j] += water + w.force_x * (half_u[r + j] - half_u[r + j - 1]) + w.force_y * (half_v[k + j] - half_v[k + j - width]);
        }
    }
}

/* States 1 .. count from state 0, each (3, batch, height, width). depth: `depths` (1 or batch) planes. Returns 0, or 1 without memory. */
int NAME(forward)(NAME(Waves) w, long depths, long batch, long count, REAL *states) {
    const long cells = w.height * w.width, size = 3 * batch * cells;
    const REAL *depth = w.depth;
    REAL *buffer = malloc(sizeof(REAL) * (2 * (w.height + 1) * (w.width + 1) + 4 * (w.width + 2)));
    if (!buffer) return 1;
    const unsigned before = flush();
    w.plane = batch * cells;
    for (long b = 0; b < batch; b++) {
        w.depth = depth + (depths > 1 ? b * cells : 0);
        for (long n = 0; n < count; n++)
            NAME(step)(w, states + n * size + b * cells, states + (n + 1) * size + b * cells, buffer);
    }
    restore(before);
    free(buffer);
    return 0;
}

/* The way back from state `count` to state 0: `to`, (3, batch, height, width), and `to_depth`, (batch, height, width), change in place. */
int NAME(backward)(NAME(Waves) w, long depths, long batch, long count, const REAL *states, REAL *to, REAL *to_depth, double *to_gravity) {
    const long cells = w.height * w.width, size = 3 * batch * cells;
    const REAL *depth = w.depth;
    REAL *buffer = malloc(sizeof(REAL) * (8 * (w.height + 2) * (w.width + 2)));
    if (!buffer) return 1;
    const unsigned before = flush();
    w.plane = batch * cells;
    for (long b = 0; b < batch; b++) {
        w.depth = depth + (depths > 1 ? b * cells : 0);
        for (long n = count - 1; n >= 0; n--)
            NAME(back)(w, states + n * size + b * cells, states + (n + 1) * size + b * cells,
                       to + b * cells, to_depth + b * cells, to_gravity, buffer);
    }
    restore(before);
    free(buffer);
    return 0;
}
#endif
