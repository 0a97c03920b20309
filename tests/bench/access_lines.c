/* access_lines.c: lines of the access log at a given rate, as the loop's thread makes them, without a server around it.
 *
 *     access_lines RATE SECONDS OLD-NAMES >/dev/null 2>LOG      OLD-NAMES: on or off
 *
 * Prints the lines made, those dropped, the rate that was reached and the nanoseconds that a line took its maker, as
 * one line of JSON on standard output. The ring has the default size of --log-buffer.
 */
#include "server/api/access_log.h"
#include "server/base/clock.h"
#include "server/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RING = 1 << 20, BURST_NANOSECONDS = 1000000 };

static struct exchange exchange = {.route = ROUTE_SCORE,
                                   .request_id = "0123456789abcdef0123456789abcdef",
                                   .method = "POST",
                                   .path = "/score",
                                   .answer = {.status = 200}};
static const struct request_summary summary = {.candidates = 1, .behaviours = 100, .user_state = "cached"};
static struct scoring_counts counts;

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: access_lines RATE SECONDS on|off\n");
        return 2;
    }
    double rate = strtod(argv[1], NULL), seconds = strtod(argv[2], NULL);
    enum access_lines lines = strcmp(argv[3], "on") == 0 ? ACCESS_LINES_OLD : ACCESS_LINES;
    log_start(LEVEL_INFO);
    if (!log_start_writer(RING))
        return 1;
    uint64_t began = clock_now(), end = began + clock_from_seconds(seconds), now = began, spent = 0, made = 0;
    while (now < end) {
        uint64_t due = (uint64_t)(clock_seconds(now - began) * rate);
        for (; made < due; made++) {
            exchange.began = now;
            access_log_exchange(&exchange, &summary, &counts, lines);
        }
        uint64_t after = clock_now();
        spent += after - now;
        nanosleep(&(struct timespec){.tv_nsec = BURST_NANOSECONDS}, NULL);
        now = clock_now();
    }
    double took = clock_seconds(now - began);
    log_stop();
    struct log_counts count = log_count();
    printf("{\"lines\": %llu, \"dropped\": %llu, \"per_second\": %.0f, \"nanoseconds_each\": %.1f}\n",
           (unsigned long long)count.lines, (unsigned long long)count.dropped, (double)made / took,
           (double)spent / (double)(made > 0 ? made : 1));
    return 0;
}
