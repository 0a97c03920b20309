/* openapi_page.h: the body of GET /openapi.json: proto/openapi.json of the source that the server was built from. */
#ifndef SERVER_API_OPENAPI_PAGE_H
#define SERVER_API_OPENAPI_PAGE_H

#include <stddef.h>

/* UTF-8, without line ends and indentation, and without a NUL at the end. */
extern const char openapi_page[];
extern const size_t openapi_page_size; /* bytes */

#endif
