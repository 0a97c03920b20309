/* test_client_table.c: clients by their keys, and the use of each, which halves with time. */
#include "server/scoring/client_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct client_table table;
static const uint64_t half_life = (uint64_t)(1e9 * CLIENT_HALF_LIFE_SECONDS);
static const uint64_t ways = CLIENT_WAYS, sets = CLIENT_SETS;
static const uint64_t start = UINT64_C(1) << 50;

static int clear(void **state) {
    (void)state;
    memset(&table, 0, sizeof table);
    return 0;
}

static void a_key_has_one_entry(void **state) {
    (void)state;
    struct client *found[3 * CLIENT_WAYS];
    for (uint64_t key = 0; key < 3 * ways; key++)
        found[key] = client_table_find(&table, key, start);
    for (uint64_t key = 1; key < 3 * ways; key++) {
        assert_ptr_equal(client_table_find(&table, key, start), found[key]);
        assert_int_equal(found[key]->key, key);
    }
    assert_ptr_equal(found[0], found[1]); /* key 0 means an empty entry, so it is 1 */
}

/* Keys of one set: the one that has used least gives way, never one that waits. */
static void the_least_used_gives_way(void **state) {
    (void)state;
    struct client *clients[CLIENT_WAYS];
    for (uint64_t i = 0; i < ways; i++) {
        clients[i] = client_table_find(&table, 5 + i * sets, start);
        client_charge(clients[i], i == 0 ? 1e-4 : i == 3 ? 1e-3 : 1, start);
    }
    clients[0]->waiting = 1;
    struct client *fresh = client_table_find(&table, 5 + 100 * sets, start);
    assert_ptr_equal(fresh, clients[3]);
    assert_true(fresh->used == 0);
    assert_int_equal(clients[0]->key, 5);
}

static void a_set_in_use_is_shared(void **state) {
    (void)state;
    for (uint64_t i = 0; i < ways; i++)
        client_table_find(&table, 5 + i * sets, start)->waiting = 1;
    const struct client *shared = client_table_find(&table, 5 + 100 * sets, start);
    assert_int_equal(shared->key % sets, 5);
    assert_int_equal(shared->waiting, 1);
    assert_true(shared->key < 5 + ways * sets);
}

static void use_halves_with_time(void **state) {
    (void)state;
    struct client *client = client_table_find(&table, 7, start);
    client_charge(client, 1, start);
    client_charge(client, 1, start + 2 * half_life);
    assert_true(fabs(client->used - 1.25) < 1e-9);
    client_charge(client, 0, start + 3 * half_life - 1);
    assert_true(fabs(client->used - 1.25) < 1e-9);
    client_charge(client, 0, start + 3 * half_life);
    assert_true(fabs(client->used - 0.625) < 1e-9);
    client_charge(client, -5, start + 3 * half_life);
    assert_true(client->used == 0);
    client_charge(client, 1, start + 1000 * half_life); /* not halved for the time before */
    assert_int_equal(client_level(client, 0, start + 1000 * half_life), 0);
}

static void levels_are_powers_of_two(void **state) {
    (void)state;
    struct client *client = client_table_find(&table, 7, start);
    assert_int_equal(client_level(client, 1e-6, start), client_level(client, 9e-4, start)); /* quiet */
    assert_true(client_level(client, 2.1e-3, start) > client_level(client, 9e-4, start));
    client_charge(client, 1.5, start);
    assert_int_equal(client_level(client, 0.4, start), 0);
    assert_int_equal(client_level(client, 0.6, start), 1);
    assert_int_equal(client_level(client, 0, start + 2 * half_life), -2);
}

static void clients_that_wait_are_listed(void **state) {
    (void)state;
    const uint64_t keys[] = {0, 7, 63, 127};
    assert_null(client_table_next(&table, NULL));
    for (size_t i = 0; i < 4; i++)
        client_table_activate(&table, client_table_find(&table, keys[i] + sets, start));
    const struct client *client = NULL;
    for (size_t i = 0; i < 4; i++) {
        client = client_table_next(&table, client);
        assert_non_null(client);
        assert_int_equal(client->key, keys[i] + sets);
    }
    assert_null(client_table_next(&table, client));
    client_table_rest(&table, client_table_find(&table, 7 + sets, start));
    client = client_table_next(&table, client_table_next(&table, NULL));
    assert_int_equal(client->key, 63 + sets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_key_has_one_entry, clear),
        cmocka_unit_test_setup(the_least_used_gives_way, clear),
        cmocka_unit_test_setup(a_set_in_use_is_shared, clear),
        cmocka_unit_test_setup(use_halves_with_time, clear),
        cmocka_unit_test_setup(levels_are_powers_of_two, clear),
        cmocka_unit_test_setup(clients_that_wait_are_listed, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
