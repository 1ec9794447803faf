/* LayerNorm over the cells of each channel where the channels of a cell lie beside each other; see space_norm.py.

   Frames are (cells, channels), x, or x + more where there is more: the sum is never kept. Everything runs along the channels, so that it vectorises; sums are of few values in float and of
   many in double. Two passes for the variance: one pass costs four digits. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 64 };

/* Adds an expression over all cells to a double for each channel. */
#define SUM_OVER_CELLS(EXPRESSION)                                                                                                      \
    memset(total, 0, channels * sizeof(double));                                                                                        \
    for (long start = 0; start < cells; start += FEW) {                                                                                 \
        const long end = start + FEW < cells ? start + FEW : cells;                                                                     \
        memset(few, 0, channels * sizeof(float));                                                                                       \
        for (long p = start; p < end; p++)                                                                                              \
            for (long c = 0; c < channels; c++) few[c] += EXPRESSION;                                                                   \
        for (long c = 0; c < channels; c++) total[c] += few[c];                                                                         \
    }

/* A frame of x, or the sum of it and more, made in the room of what is found from it element by element. */
static const float *frame_of(const float *x, const float *more, float *room, long at, long count) {
    if (!more) return x + at;
    for (long i = 0; i < count; i++) room[at + i] = x[at + i] + more[at + i];
    return room + at;
}

int norm_forward(const float *x, const float *more, const float *weight, const float *bias, float *y, float *restrict mean,
                 float *restrict scale, long frames, long cells, long channels, double eps, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float *restrict few = malloc(channels * sizeof(float));
        double *restrict total = malloc(channels * sizeof(double));
        if (!few || !total) failed = 1;
#pragma omp for schedule(static)
        for (long n = 0; n < frames; n++) {
            if (!few || !total) continue;
            const float *in = frame_of(x, more, y, n * cells * channels, cells * channels);
            float *out = y + n * cells * channels, *restrict middle = mean + n * channels, *restrict size = scale + n * channels;
            SUM_OVER_CELLS(in[p * channels + c])
            for (long c = 0; c < channels; c++) middle[c] = (float)(total[c] / cells);
            SUM_OVER_CELLS((in[p * channels + c] - middle[c]) * (in[p * channels + c] - middle[c]))
            for (long c = 0; c < channels; c++) size[c] = (float)(1 / sqrt(total[c] / cells + eps));
            for (long p = 0; p < cells; p++) {
                const float w = weight[p], b = bias[p];
#pragma omp simd
                for (long c = 0; c < channels; c++) out[p * channels + c] = (in[p * channels + c] - middle[c]) * size[c] * w + b;
            }
        }
        free(few);
        free(total);
    }
    return failed;
}

/* shares: (threads, 2, cells), the gradients of weight and bias of each thread, for the caller to add up in order. */
int norm_backward(const float *grad, const float *x, const float *more, const float *weight, const float *mean, const float *scale,
                  float *grad_x, float *shares, long frames, long cells, long channels, int threads) {
    int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int thread = 0; thread < threads; thread++) {
        float *restrict few = malloc(2 * channels * sizeof(float)), *restrict few_along = few + channels;
        double *restrict plain = malloc(2 * channels * sizeof(double)), *restrict along = plain + channels;
        float *restrict of_weight = shares + thread * 2 * cells, *restrict of_bias = of_weight + cells;
        if (!few || !plain) failed = 1;
        for (long n = thread * frames / threads; n < (thread + 1) * frames / threads && few && plain; n++) {
            const float *in = frame_of(x, more, grad_x, n * cells * channels, cells * channels), *from = grad + n * cells * channels;
            const float *middle = mean + n * channels, *size = scale + n * channels;
            float *to = grad_x + n * cells * channels;
            memset(plain, 0, 2 * channels * sizeof(double));
            for (long start = 0; start < cells; start += FEW) {
                const long end = start + FEW < cells ? start + FEW : cells;
                memset(few, 0, 2 * channels * sizeof(float));
                for (long p = start; p < end; p++) {
                    const float w = weight[p];
                    for (long c = 0; c < channels; c++) {
                        const float g = w * from[p * channels + c];
                        few[c] += g;
                        few_along[c] += g * (in[p * channels + c] - middle[c]) * size[c];
                    }
                }
                for (long c = 0; c < 2 * channels; c++) plain[c] += few[c];
            }
            for (long p = 0; p < cells; p++) {
                const float w = weight[p];
                float weighted = 0, sum = 0;
#pragma omp simd reduction(+ : weighted, sum)
                for (long c = 0; c < channels; c++) {
                    const float g = from[p * channels + c], normal = (in[p * channels + c] - middle[c]) * size[c];
                    weighted += g * normal;
                    sum += g;
                    to[p * channels + c] = size[c] * (w * g - (float)(plain[c] / cells) - normal * (float)(along[c] / cells));
                }
                of_weight[p] += weighted;
                of_bias[p] += sum;
            }
        }
        free(few);
        free(plain);
    }
    return failed;
}
