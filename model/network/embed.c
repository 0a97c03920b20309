/* embed.c: gather embeddings from the mapped tables and convert them to float32. */
#include "model/network/embed.h"

#include <assert.h>
#include <string.h>

enum { CACHE_LINE = 64 }; /* bytes, on every CPU that the kernels know */

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16. Shifted into float32's position its exponent is 112 too small: a factor, exact for subnormals too.
 */
static float float_of_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000U) << 16, magnitude = (uint32_t)(half & 0x7fffU) << 13;
    if ((half & 0x7c00U) == 0x7c00U)
        return float_of_bits(sign | 0x7f800000U | magnitude);
    return float_of_bits(sign | 0x3f800000U) * (float_of_bits(magnitude) * 0x1p112F);
}

static inline float element(const struct table *table, size_t row, size_t i) {
    const float *f32 = table->data;
    const uint16_t *u16 = table->data;
    const int8_t *i8 = table->data;
    size_t place = row * table->width + i;
    switch (table->type) {
    case TENSOR_F16:
        return float_of_half(u16[place]);
    case TENSOR_BF16: /* the first 16 bits of a float32 */
        return float_of_bits((uint32_t)u16[place] << 16);
    case TENSOR_I8:
        return table->scale[row] * (float)i8[place];
    default:
        return f32[place];
    }
}

/* Write a row's elements `stride` apart: 1 for a vector, LANES for a lane. */
static void gather(const struct table *table, size_t row, size_t stride, float *vector) {
    for (size_t i = 0; i < table->width; i++)
        vector[i * stride] = element(table, row, i);
}

/* The sum, mean or maximum of several rows, in their order; zero for none. */
static void pool_rows(const struct embedding *embedding, const int32_t *rows, size_t stride, float *vector) {
    size_t count = 0;
    for (size_t unit = 0; unit < embedding->width; unit++)
        vector[unit * stride] = 0;
    for (size_t i = 0; i < embedding->rows; i++) {
        if (rows[i] < 0)
            continue;
        for (size_t unit = 0; unit < embedding->width; unit++) {
            float value = element(embedding->table, (size_t)rows[i], unit), *pooled = &vector[unit * stride];
            if (embedding->pool == POOL_MAX)
                *pooled = count == 0 || value > *pooled ? value : *pooled;
            else
                *pooled += value;
        }
        count++;
    }
    for (size_t unit = 0; embedding->pool == POOL_MEAN && count > 0 && unit < embedding->width; unit++)
        vector[unit * stride] /= (float)count;
}

static void embed(const struct embedding *embedding, const struct dien_column *column, size_t i, size_t stride,
                  float *vector) {
    assert(i < column->count); /* so many values the request has checked */
    if (embedding->is_pooled) {
        pool_rows(embedding, column->rows + i * embedding->rows, stride, vector);
        return;
    }
    if (embedding->table != NULL) {
        gather(embedding->table, (size_t)column->rows[i], stride, vector);
        return;
    }
    size_t numbers = embedding->numbers;
    const float *values = column->values + i * numbers;
    for (size_t unit = 0; unit < embedding->width; unit++) {
        float sum = 0;
        for (size_t j = 0; j < numbers && embedding->weight != NULL; j++)
            sum += embedding->weight[unit * numbers + j] * values[j];
        vector[unit * stride] = embedding->weight != NULL ? sum : values[unit];
    }
}

void embed_value(const struct embedding *embedding, const struct dien_column *column, size_t i, float *vector) {
    embed(embedding, column, i, 1, vector);
}

void embed_lanes(const struct embedding *embedding, const struct dien_column *column, size_t first, size_t count,
                 float *lanes) {
    if (count < LANES)
        memset(lanes, 0, embedding->width * LANES * sizeof *lanes);
    for (size_t lane = 0; lane < count; lane++)
        embed(embedding, column, first + lane, LANES, lanes + lane);
}

/* Read a byte of each cache line of a row, which may begin anywhere in a line. Prefetch instructions had no measurable
 * effect here, as if they were dropped on a miss in the TLB (tests/bench/LOG.md). */
void embed_fetch(const struct embedding *embedding, const struct dien_column *column, size_t first, size_t count) {
    const struct table *table = embedding->table;
    if (table == NULL)
        return;
    size_t element = table->type == TENSOR_I8 ? 1 : table->type == TENSOR_F32 ? 4 : 2, bytes = table->width * element;
    for (size_t i = first * embedding->rows; i < (first + count) * embedding->rows; i++) {
        if (column->rows[i] < 0)
            continue;
        size_t row = (size_t)column->rows[i];
        const volatile char *start = (const volatile char *)table->data + row * bytes;
        for (size_t j = 0; j < bytes; j += CACHE_LINE)
            (void)start[j];
        (void)start[bytes - 1];
        if (table->type == TENSOR_I8)
            (void)*(const volatile float *)&table->scale[row];
    }
}
