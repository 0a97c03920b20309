/* openapi_page.c: the document's bytes, which the Makefile writes as numbers. */
#include "server/api/openapi_page.h"

const char openapi_page[] = {
#include "proto/openapi.json.h"
};
const size_t openapi_page_size = sizeof openapi_page;
