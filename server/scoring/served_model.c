/* served_model.c: counted references, and scratches that are made before the model is served: scoring allocates none.
 */
#include "server/scoring/served_model.h"

#include <stdlib.h>

struct served_model *served_model_new(struct dien_model *model, size_t threads) {
    struct served_model *served = calloc(1, sizeof *served);
    if (served == NULL) {
        dien_close(model);
        return NULL;
    }
    served->model = model;
    served->references = 1;
    served->threads = threads;
    served->scratches = calloc(threads > 0 ? threads : 1, sizeof(struct dien_scratch *));
    bool good = served->scratches != NULL;
    for (size_t i = 0; good && i < threads; i++)
        good = (served->scratches[i] = dien_scratch_new(model)) != NULL;
    if (good)
        return served;
    served_model_close(served);
    return NULL;
}

struct served_model *served_model_hold(struct served_model *served) {
    atomic_fetch_add_explicit(&served->references, 1, memory_order_relaxed);
    return served;
}

void served_model_release(struct served_model *served) {
    if (served == NULL || atomic_fetch_sub_explicit(&served->references, 1, memory_order_acq_rel) > 1)
        return;
    if (served->unused != NULL)
        served->unused(served->context, served);
    else
        served_model_close(served);
}

void served_model_close(struct served_model *served) {
    for (size_t i = 0; served->scratches != NULL && i < served->threads; i++)
        dien_scratch_free(served->scratches[i]);
    free(served->scratches);
    dien_close(served->model);
    free(served);
}
