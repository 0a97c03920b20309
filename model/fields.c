/* fields.c: a model as clients see it: names, fields, interests, sizes, and ids to table rows. */
#include "model/fields.h"

#include "model/dien.h"

/* ---- the client's view ---- */

bool model_describe(struct dien_model *model) {
    const struct config *config = &model->config;
    model->fields = pool_array(&model->pool, config->field_count, sizeof *model->fields);
    model->client_interests = pool_array(&model->pool, config->interest_count, sizeof *model->client_interests);
    if (model->fields == NULL || model->client_interests == NULL)
        return false;
    for (size_t i = 0; i < config->field_count; i++) {
        const struct field_config *field = &config->fields[i];
        enum dien_field_kind kind = DIEN_INDEX;
        if (field->dense)
            kind = DIEN_DENSE;
        else if (field->vocabulary != CONFIG_NONE)
            kind = config->vocabularies[field->vocabulary].strings ? DIEN_STRING_VOCABULARY : DIEN_INTEGER_VOCABULARY;
        model->fields[i] =
            (struct dien_field){.name = field->name,
                                .kind = kind,
                                .width = (uint32_t)(field->dense ? field->width : config->tables[field->table].width),
                                .rows = field->dense ? 0 : (int32_t)config->tables[field->table].rows,
                                .values = (uint32_t)field->values,
                                .parent = field->parent != CONFIG_NONE ? &model->fields[field->parent] : NULL,
                                .index = i};
    }
    for (int group = 0; group < DIEN_GROUPS; group++) {
        const struct indices *members = &config->groups[group];
        model->group_fields[group] = pool_array(&model->pool, members->count, sizeof(const void *));
        if (model->group_fields[group] == NULL)
            return false;
        for (size_t i = 0; i < members->count; i++)
            model->group_fields[group][i] = &model->fields[members->items[i]];
    }
    for (size_t i = 0; i < config->interest_count; i++) {
        const struct interest_config *interest = &config->interests[i];
        model->client_interests[i] = (struct dien_interest){.name = interest->name,
                                                            .max_length = interest->max_length,
                                                            .history = interest->history.items,
                                                            .history_count = interest->history.count,
                                                            .attends = interest->attention.kind != ATTENTION_NONE,
                                                            .keeps_first = interest->keep_first};
    }
    return true;
}

size_t dien_fields(const struct dien_model *model, enum dien_group group, const struct dien_field *const **fields) {
    *fields = model->group_fields[group];
    return model->config.groups[group].count;
}

size_t dien_field_count(const struct dien_model *model) {
    return model->config.field_count;
}

size_t dien_interests(const struct dien_model *model, const struct dien_interest **interests) {
    *interests = model->client_interests;
    return model->config.interest_count;
}

const char *dien_name(const struct dien_model *model) {
    return model->config.name;
}

const char *dien_version(const struct dien_model *model) {
    return model->config.version;
}

size_t dien_mapped_bytes(const struct dien_model *model) {
    return model->file.size;
}

size_t dien_prefault(const struct dien_model *model, size_t most) {
    return safetensors_prefault(&model->file, most);
}

size_t dien_packed_bytes(const struct dien_model *model) {
    return model->pool.bytes;
}

struct dien_reduction dien_reduced(const struct dien_model *model) {
    return model->reduced;
}

const char *dien_precision_name(const struct dien_model *model) {
    static const char *const names[] = {"float32", "int16 products", "int16 and int8 products"};
    return names[model->reduced.products + model->reduced.int8];
}

/* ---- ids to rows ---- */

/* The row of a field's entry or index `i`. It is the unknown row if i is negative or beyond the table. */
static int32_t row_of(const struct dien_model *model, const struct field_config *field, int64_t i, bool *known) {
    int64_t rows = (int64_t)model->config.tables[field->table].rows;
    *known = i >= 0 && i < rows - field->first_row;
    return *known ? (int32_t)(field->first_row + i) : field->unknown_row;
}

int32_t dien_unknown_row(const struct dien_model *model, const struct dien_field *field) {
    return model->config.fields[field->index].unknown_row;
}

int32_t dien_row_of_integer(const struct dien_model *model, const struct dien_field *field, int64_t id, bool *known) {
    const struct field_config *config = &model->config.fields[field->index];
    if (config->vocabulary != CONFIG_NONE) {
        const struct vocabulary *vocabulary = &model->vocabularies[config->vocabulary];
        id = vocabulary->is_unsigned && id < 0 ? -1 : vocabulary_find_integer(vocabulary, id);
    }
    return row_of(model, config, id, known);
}

int32_t dien_row_of_unsigned(const struct dien_model *model, const struct dien_field *field, uint64_t id, bool *known) {
    if (id <= INT64_MAX)
        return dien_row_of_integer(model, field, (int64_t)id, known);
    const struct field_config *config = &model->config.fields[field->index];
    const struct vocabulary *vocabulary =
        config->vocabulary != CONFIG_NONE ? &model->vocabularies[config->vocabulary] : NULL;
    bool may_hold = vocabulary != NULL && vocabulary->is_unsigned;
    return row_of(model, config, may_hold ? vocabulary_find_integer(vocabulary, (int64_t)id) : -1, known);
}

int32_t dien_row_of_string(const struct dien_model *model, const struct dien_field *field, const char *id,
                           size_t length, bool *known) {
    const struct field_config *config = &model->config.fields[field->index];
    return row_of(model, config, vocabulary_find_string(&model->vocabularies[config->vocabulary], id, length), known);
}

bool dien_id_of_row(const struct dien_model *model, const struct dien_field *field, int32_t row, struct dien_id *id) {
    const struct field_config *config = &model->config.fields[field->index];
    int64_t entry = (int64_t)row - config->first_row;
    if (entry < 0 || row >= field->rows)
        return false;
    *id = (struct dien_id){.kind = DIEN_ID_INTEGER, .integer = entry};
    if (config->vocabulary == CONFIG_NONE)
        return true;
    const struct vocabulary *vocabulary = &model->vocabularies[config->vocabulary];
    if ((uint64_t)entry >= vocabulary->entries)
        return false;
    if (vocabulary->keys != NULL) {
        id->kind = vocabulary->is_unsigned ? DIEN_ID_UNSIGNED : DIEN_ID_INTEGER;
        id->integer = vocabulary->keys[entry];
        return true;
    }
    id->kind = DIEN_ID_STRING;
    id->string = vocabulary_string(vocabulary, (size_t)entry, &id->length);
    return id->string != NULL;
}

int32_t dien_attribute_row(const struct dien_model *model, const struct dien_field *field, int32_t parent_row) {
    return model->attributes[field->index].rows[parent_row];
}

const int32_t *dien_attribute_rows(const struct dien_model *model, const struct dien_field *field, int32_t parent_row) {
    return model->attributes[field->index].rows + (size_t)parent_row * field->values;
}

const float *dien_attribute_values(const struct dien_model *model, const struct dien_field *field, int32_t parent_row) {
    return model->attributes[field->index].values + (size_t)parent_row * field->width;
}
