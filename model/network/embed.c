/* embed.c: gather embeddings from the mapped tables, whatever their type; arithmetic is float32 from here on. */
#include "model/network/embed.h"

#include <string.h>

enum { LINE = 64 }; /* bytes that the memory moves at once, on the processors that we know */

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16. Shifted into float32's place its exponent is off by 112: a factor, exact for subnormals too. */
static float float_of_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000U) << 16, magnitude = (uint32_t)(half & 0x7fffU) << 13;
    if ((half & 0x7c00U) == 0x7c00U)
        return float_of_bits(sign | 0x7f800000U | magnitude);
    return float_of_bits(sign | 0x3f800000U) * (float_of_bits(magnitude) * 0x1p112F);
}

/* The first 16 bits of a float32. */
static float float_of_brain(uint16_t brain) {
    return float_of_bits((uint32_t)brain << 16);
}

/* `vector` has the elements `stride` apart, so that one function fills plain vectors and lanes. */
static void gather(const struct table *table, size_t row, size_t stride, float *vector) {
    const float *f32 = table->data;
    const uint16_t *u16 = table->data;
    const int8_t *i8 = table->data;
    size_t start = row * table->width;
    for (size_t i = 0; i < table->width; i++)
        switch (table->type) {
        case TENSOR_F16:
            vector[i * stride] = float_of_half(u16[start + i]);
            break;
        case TENSOR_BF16:
            vector[i * stride] = float_of_brain(u16[start + i]);
            break;
        case TENSOR_I8:
            vector[i * stride] = table->scale[row] * (float)i8[start + i];
            break;
        default:
            vector[i * stride] = f32[start + i];
        }
}

/* The linear layer of a dense field. */
static void embed_dense(const float *weight, size_t units, size_t width, const float *values, size_t stride,
                        float *vector) {
    for (size_t unit = 0; unit < units; unit++) {
        float sum = 0;
        for (size_t i = 0; i < width; i++)
            sum += weight[unit * width + i] * values[i];
        vector[unit * stride] = sum;
    }
}

static void embed(const struct dien_model *model, size_t field, const struct dien_column *column, size_t i,
                  size_t stride, float *vector) {
    const struct field_config *config = &model->config.fields[field];
    if (!config->dense) {
        gather(&model->tables[config->table], (size_t)column->rows[i], stride, vector);
        return;
    }
    const float *values = column->values + i * config->width, *weight = model->dense[field];
    if (weight == NULL)
        for (size_t j = 0; j < config->width; j++)
            vector[j * stride] = values[j];
    else
        embed_dense(weight, config->units, config->width, values, stride, vector);
}

static size_t element_size(const struct table *table) {
    return table->type == TENSOR_I8 ? 1 : table->type == TENSOR_F16 || table->type == TENSOR_BF16 ? 2 : 4;
}

/* A byte of each line of a row, which may begin anywhere in a line. By reading it: an instruction that only prefetches
 * was measured to do nothing, as if dropped where the page's address is not at hand (tests/bench/LOG.md). */
static void fetch_row(const struct table *table, size_t row) {
    size_t bytes = table->width * element_size(table);
    const volatile char *start = (const volatile char *)table->data + row * bytes;
    for (size_t i = 0; i < bytes; i += LINE)
        (void)start[i];
    (void)start[bytes - 1];
    if (table->type == TENSOR_I8)
        (void)*(const volatile float *)&table->scale[row];
}

void embed_fetch(const struct dien_model *model, size_t field, const struct dien_column *column, size_t first,
                 size_t count) {
    const struct field_config *config = &model->config.fields[field];
    for (size_t i = first; i < first + count && !config->dense; i++)
        fetch_row(&model->tables[config->table], (size_t)column->rows[i]);
}

void embed_value(const struct dien_model *model, size_t field, const struct dien_column *column, size_t i,
                 float *vector) {
    embed(model, field, column, i, 1, vector);
}

void embed_lanes(const struct dien_model *model, size_t columns, const size_t *fields, const struct dien_column *column,
                 size_t first, size_t count, float *lanes) {
    for (size_t i = 0; i < columns; i++) {
        size_t width = config_field_width(&model->config, fields[i]);
        if (count < LANES)
            memset(lanes, 0, width * LANES * sizeof *lanes);
        for (size_t lane = 0; lane < count; lane++)
            embed(model, fields[i], &column[i], first + lane, LANES, lanes + lane);
        lanes += width * LANES;
    }
}

void embed_fetch_bias(const struct dien_model *model, const struct dien_column *column, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++)
        fetch_row(&model->tables[model->config.bias_table], (size_t)column->rows[i]);
}

void embed_bias(const struct dien_model *model, const struct dien_column *column, size_t first, size_t count,
                float *lanes) {
    memset(lanes, 0, LANES * sizeof *lanes);
    for (size_t lane = 0; lane < count; lane++)
        gather(&model->tables[model->config.bias_table], (size_t)column->rows[first + lane], 1, lanes + lane);
}
