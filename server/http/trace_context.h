/* trace_context.h: a request's place in a trace, by W3C Trace Context (https://www.w3.org/TR/trace-context/). */
#ifndef SERVER_HTTP_TRACE_CONTEXT_H
#define SERVER_HTTP_TRACE_CONTEXT_H

#include <stdbool.h>

enum { TRACE_ID_TEXT = 33, SPAN_ID_TEXT = 17, TRACEPARENT_TEXT = 56 };

struct trace_context {
    char trace_id[TRACE_ID_TEXT]; /* "": the request is in no trace */
    char span_id[SPAN_ID_TEXT];   /* of this server's part */
    bool sampled;                 /* whoever began the trace records it */
};

/* Of the header traceparent, which may be NULL. A malformed one is as none. */
void trace_context_read(const char *traceparent, struct trace_context *trace);
/* The header for whoever is told of this server's part. */
void trace_context_write(const struct trace_context *trace, char text[TRACEPARENT_TEXT]);

#endif
