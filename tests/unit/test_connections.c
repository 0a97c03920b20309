/* test_connections.c: deadlines of connections, with real sockets and a clock that the test moves. */
#include "server/http/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct connections connections;
static struct connection connection;
static int client, server;
static unsigned expired;
static enum connection_end reason;

/* A pair of connected TCP sockets: bytes received are counted for TCP only. */
static void connect_pair(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
    server = accept(listening, NULL, NULL);
    assert_true(server >= 0);
    close(listening);
}

static int start(void **state) {
    (void)state;
    connect_pair();
    memset(&connections, 0, sizeof connections);
    connections.header_timeout = 10;
    connections.body_timeout = 20;
    connections.reply_timeout = 30;
    connections.idle_timeout = 100;
    memset(&connection, 0, sizeof connection);
    connections_add(&connections, &connection, server, 1000);
    expired = 0;
    return 0;
}

static int stop(void **state) {
    (void)state;
    connections_remove(&connections, &connection);
    close(client);
    close(server);
    return connections.count == 0 && connections.first == NULL ? 0 : -1;
}

static void on_expired(void *context, struct connection *which, enum connection_end why) {
    (void)context;
    assert_ptr_equal(which, &connection);
    assert_int_equal(which->phase, CONNECTION_CLOSING);
    reason = why;
    expired++;
}

static unsigned sweep(uint64_t now) {
    connections_sweep(&connections, now, on_expired, NULL);
    return expired;
}

static void send_byte(void) {
    char byte = 'x';
    assert_int_equal(send(client, &byte, 1, 0), 1);
    assert_int_equal(recv(server, &byte, 1, 0), 1);
}

static void silence_ends_at_the_idle_timeout(void **state) {
    (void)state;
    assert_int_equal(sweep(1050), 0);
    assert_int_equal(sweep(1100), 0);
    assert_int_equal(sweep(1101), 1);
    assert_int_equal(reason, END_IDLE);
    assert_int_equal(sweep(9000), 1); /* once only */
}

static void a_byte_now_and_then_ends_at_the_header_timeout(void **state) {
    (void)state;
    send_byte();
    assert_int_equal(sweep(1005), 0); /* noticed here */
    send_byte();
    assert_int_equal(sweep(1012), 0);
    send_byte();
    assert_int_equal(sweep(1016), 1);
    assert_int_equal(reason, END_HEADER_TIMEOUT);
}

static void a_request_after_a_long_silence_is_in_time(void **state) {
    (void)state;
    assert_int_equal(sweep(1090), 0);
    send_byte();
    assert_int_equal(sweep(1099), 0);
    assert_int_equal(sweep(1105), 0); /* past the idle timeout, but not silent */
    connection_enter(&connection, CONNECTION_BODY, 1106);
    assert_int_equal(sweep(1126), 0);
    assert_int_equal(sweep(1127), 1);
    assert_int_equal(reason, END_BODY_TIMEOUT);
}

/* Bytes of the request before are not bytes of the next. */
static void a_kept_connection_starts_anew(void **state) {
    (void)state;
    send_byte();
    connection_enter(&connection, CONNECTION_BODY, 1001);
    connection_enter(&connection, CONNECTION_WORKING, 1002);
    assert_int_equal(sweep(500000), 0); /* no deadline for our own work */
    connection_enter(&connection, CONNECTION_REPLYING, 500000);
    connection_enter(&connection, CONNECTION_WAITING, 500001);
    assert_int_equal(sweep(500020), 0);
    assert_int_equal(sweep(500040), 0);
    send_byte();
    assert_int_equal(sweep(500050), 0);
    assert_int_equal(sweep(500061), 1);
    assert_int_equal(reason, END_HEADER_TIMEOUT);
}

static void a_first_line_starts_the_clock(void **state) {
    (void)state;
    connection_request_began(&connection, 1001);
    connection_request_began(&connection, 1009);
    assert_int_equal(sweep(1011), 0);
    assert_int_equal(sweep(1012), 1);
    assert_int_equal(reason, END_HEADER_TIMEOUT);
}

static void a_reply_that_is_not_taken(void **state) {
    (void)state;
    connection_enter(&connection, CONNECTION_REPLYING, 2000);
    assert_int_equal(sweep(2030), 0);
    assert_int_equal(sweep(2031), 1);
    assert_int_equal(reason, END_REPLY_TIMEOUT);
    connection_enter(&connection, CONNECTION_WAITING, 2032); /* what is told to go stays told */
    assert_int_equal(connection.phase, CONNECTION_CLOSING);
}

/* Bytes and the close together, of which the bytes have been read; half a request may be still unread. */
static void a_peer_that_left_is_noticed(void **state) {
    (void)state;
    char bytes[2] = "xy";
    assert_int_equal(send(client, bytes, 2, 0), 2);
    shutdown(client, SHUT_WR);
    connection_enter(&connection, CONNECTION_BODY, 1001);
    assert_int_equal(recv(server, bytes, 1, 0), 1);
    assert_int_equal(sweep(1002), 0);
    assert_int_equal(recv(server, bytes, 1, 0), 1);
    connection_enter(&connection, CONNECTION_WORKING, 1003);
    assert_int_equal(sweep(1004), 0); /* it may still want its answer */
    connection_enter(&connection, CONNECTION_WAITING, 1005);
    assert_int_equal(sweep(1006), 1);
    assert_int_equal(reason, END_ORDINARY);
}

static void only_silent_connections_are_dismissed(void **state) {
    (void)state;
    connections_dismiss(&connections, 1005, 5, on_expired, NULL);
    assert_int_equal(expired, 0);
    connection_request_began(&connection, 1006);
    connections_dismiss(&connections, 1009, 5, on_expired, NULL);
    assert_int_equal(expired, 0);
    connection_enter(&connection, CONNECTION_WORKING, 1010);
    connections_dismiss(&connections, 5000, 5, on_expired, NULL);
    assert_int_equal(expired, 0);
    connection_enter(&connection, CONNECTION_WAITING, 5000);
    connections_dismiss(&connections, 5006, 5, on_expired, NULL);
    assert_int_equal(expired, 1);
    assert_int_equal(reason, END_DRAIN);
}

static struct connection *examined[4 * CONNECTIONS_A_SWEEP];
static size_t examined_count;

static void on_examined(void *context, struct connection *which, enum connection_end why) {
    (void)context;
    (void)why;
    examined[examined_count++] = which;
}

/* Sweeps of a list from which some go in the middle: nobody has two turns before all had one. */
static void each_connection_has_its_turn(void **state) {
    (void)state;
    static struct connection many[3 * CONNECTIONS_A_SWEEP];
    enum { MANY = sizeof many / sizeof *many };
    examined_count = 0;
    assert_int_equal(connections_sweeps(&connections), 1);
    for (size_t i = 0; i < MANY; i++)
        connections_add(&connections, &many[i], -1, 1000);
    assert_int_equal(connections_sweeps(&connections), 4); /* start() added one */
    connections_sweep(&connections, 9000, on_examined, NULL);
    assert_int_equal(examined_count, CONNECTIONS_A_SWEEP);
    assert_ptr_equal(examined[0], &many[MANY - 1]);                          /* the last that came is the first */
    connections_remove(&connections, &many[MANY - 1 - CONNECTIONS_A_SWEEP]); /* whose turn is next */
    connections_remove(&connections, &many[0]);
    assert_int_equal(connections_sweeps(&connections), 3);
    for (int i = 0; i < 3; i++)
        connections_sweep(&connections, 9000, on_examined, NULL);
    assert_int_equal(examined_count,
                     MANY + 1 - 2); /* each is past its time once, so the fourth sweep found nothing new */
    assert_ptr_equal(examined[CONNECTIONS_A_SWEEP], &many[MANY - 2 - CONNECTIONS_A_SWEEP]);
    for (size_t i = 0; i < MANY; i++)
        if (i != 0 && i != MANY - 1 - CONNECTIONS_A_SWEEP)
            connections_remove(&connections, &many[i]);
}

/* ---- room for another */

enum { SEVERAL = 6 };
static struct connection several[SEVERAL];
static const uint64_t millisecond = 1000000;

/* Opened at 1, 2, ... seconds; start() added one at 1,000 nanoseconds, which is told to go. */
static void add_several(void) {
    connection_enter(&connection, CONNECTION_CLOSING, 1000);
    for (size_t i = 0; i < SEVERAL; i++)
        connections_add(&connections, &several[i], -1, (i + 1) * 1000 * millisecond);
    examined_count = 0;
    assert_int_equal(connections_staying(&connections), SEVERAL);
}

static void remove_several(void) {
    for (size_t i = 0; i < SEVERAL; i++)
        connections_remove(&connections, &several[i]);
    for (int phase = CONNECTION_WAITING; phase < CONNECTION_CLOSING; phase++)
        assert_true(connections.queues[phase].first == NULL && connections.queues[phase].last == NULL &&
                    connections.queues[phase].count == 0);
}

static bool make_room(enum connection_need need, uint64_t milliseconds) {
    return connections_make_room(&connections, need, milliseconds * millisecond, on_examined, NULL);
}

static void the_longest_idle_makes_room(void **state) {
    (void)state;
    add_several();
    connection_enter(&several[0], CONNECTION_WORKING, 6100 * millisecond);
    connection_enter(&several[0], CONNECTION_WAITING, 6200 * millisecond); /* used a moment ago */
    connection_enter(&several[2], CONNECTION_WORKING, 6200 * millisecond);
    static const size_t order[] = {1, 3, 4, 5, 0};
    for (size_t i = 0; i < 5; i++) {
        assert_true(make_room(NEED_FOR_CONNECTION, 6301));
        assert_ptr_equal(examined[i], &several[order[i]]);
        assert_int_equal(several[order[i]].end, END_FULL);
        assert_int_equal(connections_staying(&connections), SEVERAL - 1 - i);
    }
    assert_false(make_room(NEED_FOR_CONNECTION, 9000)); /* what works on an answer stays */
    assert_false(make_room(NEED_AT_ONCE, 9000));
    remove_several();
}

static void what_came_just_now_stays_unless_it_is_needed(void **state) {
    (void)state;
    add_several();
    for (size_t i = 0; i < SEVERAL; i++)
        connection_enter(&several[i], i < 3 ? CONNECTION_HEAD : CONNECTION_BODY, (7000 + i) * millisecond);
    connection_enter(&several[0], CONNECTION_WAITING, 7500 * millisecond);
    assert_false(make_room(NEED_FOR_CONNECTION, 7600));
    assert_true(make_room(NEED_FOR_REQUEST, 7600));
    assert_ptr_equal(examined[0], &several[0]);
    assert_false(make_room(NEED_FOR_REQUEST, 7600)); /* heads and bodies of less than a second */
    connection_enter(&several[1], CONNECTION_HEAD, 7650 * millisecond);
    assert_true(make_room(NEED_AT_ONCE, 7700));
    assert_ptr_equal(examined[1], &several[2]); /* the longest of all, in whatever phase */
    assert_true(make_room(NEED_AT_ONCE, 7700));
    assert_ptr_equal(examined[2], &several[3]);
    assert_false(make_room(NEED_FOR_CONNECTION, 8004)); /* a second to the millisecond */
    assert_true(make_room(NEED_FOR_CONNECTION, 8005));
    assert_ptr_equal(examined[3], &several[4]);
    remove_several();
}

/* The request of the longest idle one has arrived, and is read in the loop's next turn. */
static void an_unread_request_is_not_idle(void **state) {
    (void)state;
    char byte = 'G';
    struct connection *other = &several[0];
    assert_int_equal(send(client, &byte, 1, 0), 1);
    connections_add(&connections, other, -1, 2000);
    assert_true(make_room(NEED_FOR_CONNECTION, 1000));
    assert_int_equal(other->phase, CONNECTION_CLOSING);
    assert_false(make_room(NEED_FOR_CONNECTION, 1000));
    assert_false(make_room(NEED_FOR_REQUEST, 1000));
    connections_remove(&connections, other);
    assert_int_equal(recv(server, &byte, 1, 0), 1);
}

static void the_reply_that_waits_for_longest_is_dropped(void **state) {
    (void)state;
    add_several();
    for (size_t i = 0; i < 3; i++)
        connection_enter(&several[i], CONNECTION_REPLYING, (7000 + 10 * i) * millisecond);
    uint64_t now = 7100 * millisecond, age = 100 * millisecond;
    assert_true(connections_drop_reply(&connections, NULL, age, now, on_examined, NULL));
    assert_ptr_equal(examined[0], &several[0]);
    assert_int_equal(several[0].end, END_REPLY_DROPPED);
    assert_false(connections_drop_reply(&connections, NULL, age, now, on_examined, NULL)); /* 90 milliseconds */
    assert_true(connections_drop_reply(&connections, &several[1], 0, now, on_examined, NULL));
    assert_ptr_equal(examined[1], &several[2]);
    assert_false(connections_drop_reply(&connections, &several[1], 0, now, on_examined, NULL));
    remove_several();
}

static void a_reset_cuts_the_connection(void **state) {
    (void)state;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    char byte;
    assert_false(connection_is_cut(&connection));
    shutdown(client, SHUT_WR);
    assert_int_equal(recv(server, &byte, 1, 0), 0);
    assert_false(connection_is_cut(&connection)); /* it may still read */
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client);
    assert_true(connection_is_cut(&connection));
    client = -1;
}

static void on_counted(void *context, struct connection *which, enum connection_end why) {
    (void)which;
    (void)why;
    ++*(size_t *)context;
}

/* However many there are, a round of all takes 250 sweeps at most. */
static void thousands_have_their_turns_in_time(void **state) {
    (void)state;
    enum { THOUSANDS = 20000 };
    struct connection *many = calloc(THOUSANDS, sizeof *many);
    assert_non_null(many);
    for (size_t i = 0; i < THOUSANDS; i++)
        connections_add(&connections, &many[i], -1, 1000);
    size_t sweeps = connections_sweeps(&connections), counted = 0;
    assert_in_range(sweeps, 2, SWEEPS_A_ROUND);
    for (size_t i = 0; i < sweeps; i++)
        connections_sweep(&connections, 9000, on_counted, &counted);
    assert_int_equal(counted, THOUSANDS + 1); /* start() added one */
    for (size_t i = 0; i < THOUSANDS; i++)
        connections_remove(&connections, &many[i]);
    free(many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(silence_ends_at_the_idle_timeout, start, stop),
        cmocka_unit_test_setup_teardown(a_byte_now_and_then_ends_at_the_header_timeout, start, stop),
        cmocka_unit_test_setup_teardown(a_request_after_a_long_silence_is_in_time, start, stop),
        cmocka_unit_test_setup_teardown(a_kept_connection_starts_anew, start, stop),
        cmocka_unit_test_setup_teardown(a_first_line_starts_the_clock, start, stop),
        cmocka_unit_test_setup_teardown(a_reply_that_is_not_taken, start, stop),
        cmocka_unit_test_setup_teardown(a_peer_that_left_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(each_connection_has_its_turn, start, stop),
        cmocka_unit_test_setup_teardown(thousands_have_their_turns_in_time, start, stop),
        cmocka_unit_test_setup_teardown(only_silent_connections_are_dismissed, start, stop),
        cmocka_unit_test_setup_teardown(the_longest_idle_makes_room, start, stop),
        cmocka_unit_test_setup_teardown(what_came_just_now_stays_unless_it_is_needed, start, stop),
        cmocka_unit_test_setup_teardown(an_unread_request_is_not_idle, start, stop),
        cmocka_unit_test_setup_teardown(the_reply_that_waits_for_longest_is_dropped, start, stop),
        cmocka_unit_test_setup_teardown(a_reset_cuts_the_connection, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
