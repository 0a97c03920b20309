/* pack.h: rearrange the weights of a bound model for the kernels. */
#ifndef MODEL_FORMAT_PACK_H
#define MODEL_FORMAT_PACK_H

#include "model/format/bind.h"

/* False when memory is out. */
bool model_pack(struct dien_model *model);

#endif
