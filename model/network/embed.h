/* embed.h: the behaviour layer (paper section 4.2): table rows and dense values to vectors. */
#ifndef MODEL_NETWORK_EMBED_H
#define MODEL_NETWORK_EMBED_H

#include "model/dien.h"
#include "model/format/bind.h"

/* Value number `i` of a column as a vector. */
void embed_value(const struct embedding *embedding, const struct dien_column *column, size_t i, float *vector);

/* Values first .. first + count of a column, count <= LANES, in lanes: [width, LANES]. Lanes past count are zero. */
void embed_lanes(const struct embedding *embedding, const struct dien_column *column, size_t first, size_t count,
                 float *lanes);

/* Bring the table rows of values first .. first + count into the CPU's caches. Fetched together, the misses of a large
 * table overlap; gathered one by one they would not. */
void embed_fetch(const struct embedding *embedding, const struct dien_column *column, size_t first, size_t count);

#endif
