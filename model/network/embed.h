/* embed.h: the behaviour layer (paper section 4.2): table rows and dense values to vectors. */
#ifndef MODEL_NETWORK_EMBED_H
#define MODEL_NETWORK_EMBED_H

#include "model/model.h"

/* The vector of one field's value number `i` of a column, [width of the field]. */
void embed_value(const struct dien_model *model, size_t field, const struct dien_column *column, size_t i,
                 float *vector);

/* Values first .. first + count of several columns, count <= LANES, concatenated, in lanes: [sum of widths, LANES].
 * Lanes past count are zero. fields[i] is the place in the config of column i's field. */
void embed_lanes(const struct dien_model *model, size_t columns, const size_t *fields, const struct dien_column *column,
                 size_t first, size_t count, float *lanes);

/* Bring into the caches what embeds values first .. first + count of a column, and their bias. All at once the waits
 * for rows of a large table, which are in no cache, overlap; gathered one by one they would not. */
void embed_fetch(const struct dien_model *model, size_t field, const struct dien_column *column, size_t first,
                 size_t count);
void embed_fetch_bias(const struct dien_model *model, const struct dien_column *column, size_t first, size_t count);

/* The output bias of candidates first .. first + count, [LANES]; column is that of config.bias_place. */
void embed_bias(const struct dien_model *model, const struct dien_column *column, size_t first, size_t count,
                float *lanes);

#endif
