/* fields.h: describe a model's fields and interests as clients see them. */
#ifndef MODEL_FIELDS_H
#define MODEL_FIELDS_H

#include "model/format/bind.h"

/* Fill in the client's view of a bound model. False when memory is out. */
bool model_describe(struct dien_model *model);

#endif
