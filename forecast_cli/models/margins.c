/* Margins of fields whose axes close on themselves, and what flows back from them; see margins.py.

   Fields are (planes, height, width, elements of a cell): the elements are the channels where they lie beside each other, else one. */

#ifndef NAME
#include <stdint.h>
#include <string.h>

/* rows, columns: of the margin on each side. both: rows close on themselves too, else zeros lie beyond them. bytes: of an element. */
typedef struct {
    long planes, height, width, cell, rows, columns;
    int both, bytes, threads;
} Margins;

/* A number of 0..length-1 for any that is less than a length away. */
static inline long around(long position, long length) {
    return position < 0 ? position + length : position < length ? position : position - length;
}

void margins_forward(const Margins *m, const char *fields, char *padded) {
    const long size = m->cell * m->bytes, inner = m->width * size, side = m->columns * size, outer = inner + 2 * side;
    const long tall = m->height + 2 * m->rows;
#pragma omp parallel for schedule(static) num_threads(m->threads) if (m->threads > 1)
    for (long row = 0; row < m->planes * tall; row++) {
        const long y = row % tall - m->rows;
        char *to = padded + row * outer;
        if (!m->both && (y < 0 || y >= m->height)) {
            memset(to, 0, outer);
            continue;
        }
        const char *from = fields + (row / tall * m->height + around(y, m->height)) * inner;
        memcpy(to, from + inner - side, side);
        memcpy(to + side, from, inner);
        memcpy(to + side + inner, from, side);
    }
}

static inline float wide(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

static inline uint16_t narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    /* To nearest, ties to even; not a number stays one. */
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 64 : rounded);
}

#define REAL float
#define NAME(x) x##_float
#define PLUS(a, b) ((a) + (b))
#include "margins.c"
#undef REAL
#undef NAME
#undef PLUS
#define REAL double
#define NAME(x) x##_double
#define PLUS(a, b) ((a) + (b))
#include "margins.c"
#undef REAL
#undef NAME
#undef PLUS
#define REAL uint16_t
#define NAME(x) x##_half
#define PLUS(a, b) narrow(wide(a) + wide(b))
#include "margins.c"
#else

static inline void NAME(add)(REAL *restrict to, const REAL *restrict from, long count) {
    for (long i = 0; i < count; i++) to[i] = PLUS(to[i], from[i]);
}

/* Each cell gets what reached it and its images beyond the edges. */
void NAME(margins_backward)(const Margins *m, const REAL *padded, REAL *fields) {
    const long inner = m->width * m->cell, side = m->columns * m->cell, outer = inner + 2 * side, tall = m->height + 2 * m->rows;
#pragma omp parallel for schedule(static) num_threads(m->threads) if (m->threads > 1)
    for (long row = 0; row < m->planes * m->height; row++) {
        const long y = row % m->height;
        const REAL *plane = padded + row / m->height * tall * outer;
        REAL *to = fields + row * inner;
        memcpy(to, plane + (y + m->rows) * outer + side, inner * sizeof(REAL));
        for (long image = y - m->height; image <= y + m->height; image += m->height) {
            if (image < -m->rows || image >= m->height + m->rows || (image != y && !m->both)) continue;
            const REAL *from = plane + (image + m->rows) * outer;
            if (image != y) NAME(add)(to, from + side, inner);
            NAME(add)(to + inner - side, from, side);
            NAME(add)(to, from + side + inner, side);
        }
    }
}
#endif
