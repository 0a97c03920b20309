/* history_model.h: random calls to a history store beside plain arrays that must agree with it.
 *
 * Include it after cmocka.h.
 */
#ifndef TESTS_UNIT_HISTORY_MODEL_H
#define TESTS_UNIT_HISTORY_MODEL_H

#include "tests/support/random_bits.h"
#include "tests/unit/history_driver.h"

enum { PLAIN_USERS = 12, PLAIN_STEPS = 600, PLAIN_KEEP = 40, PLAIN_ROOM = 80 };

struct plain {
    bool known;
    size_t count, length;
    int64_t items[2 * PLAIN_STEPS * 8];
    size_t events;
    char event_ids[PLAIN_STEPS][16];
    uint64_t event_counts[PLAIN_STEPS];
};

static struct plain plain[PLAIN_USERS];

static inline void plain_compare(struct driver *driver, size_t user) {
    static int64_t items[PLAIN_ROOM];
    char name[16];
    struct history history;
    snprintf(name, sizeof name, "user%zu", user);
    arena_reset(&driver->arena);
    const struct history_result *result = driver_get(driver, name, 0);
    assert_int_equal(result->status, HISTORY_DONE);
    assert_int_equal(result->revision != 0, plain[user].known);
    if (!plain[user].known)
        return;
    uint64_t revision = result->revision;
    long held = driver_items(driver, items, PLAIN_ROOM, &history);
    size_t kept = plain[user].length < PLAIN_KEEP ? plain[user].length : PLAIN_KEEP;
    assert_int_equal(held, kept);
    assert_memory_equal(items, plain[user].items + plain[user].length - kept, kept * sizeof items[0]);
    assert_int_equal(history.count, plain[user].count);
    assert_int_equal(history.revision, revision);
    result = driver_get(driver, name, revision);
    assert_true(result->unchanged && result->record == NULL && result->revision == revision);
    result = driver_get(driver, name, revision + 2);
    assert_false(result->unchanged);
    assert_non_null(result->record);
}

/* Adds to the plain arrays what the store is asked to, and compares their answers. */
static inline void plain_step(struct driver *driver, uint64_t *random, size_t number) {
    size_t user = random_bits(random) % PLAIN_USERS, count = 1 + random_bits(random) % 7;
    struct plain *here = &plain[user];
    char name[16], event[16] = "";
    snprintf(name, sizeof name, "user%zu", user);
    switch (random_bits(random) % 12) {
    case 0:
        assert_int_equal(driver_delete(driver, name)->status, HISTORY_DONE);
        assert_int_equal(driver->result.existed, here->known);
        *here = (struct plain){.known = false};
        return;
    case 1:
        driver_close(driver);
        assert_true(driver_open(driver));
        return;
    case 2: { /* a whole history */
        struct history_change change = driver_change(driver, "", (int64_t)number * 100, count);
        change.replaces = true;
        driver->waiting++;
        history_store_append(driver->store, driver_text(name), &change, 1, 0, true, driver_done, driver);
        assert_int_equal(driver_wait(driver)->changes[0].outcome, HISTORY_APPLIED);
        here->count = here->length = 0;
        break;
    }
    case 3: /* an event again */
        if (here->events > 0) {
            size_t event_number = random_bits(random) % here->events;
            const struct history_result *result =
                driver_append(driver, name, here->event_ids[event_number], (int64_t)number * 100, count);
            assert_int_equal(result->changes[0].outcome, HISTORY_DUPLICATE);
            assert_int_equal(result->changes[0].count, here->event_counts[event_number]);
            return;
        }
        __attribute__((fallthrough));
    case 4:
    case 5:
        snprintf(event, sizeof event, "event%zu", number);
        __attribute__((fallthrough));
    default:
        assert_int_equal(driver_append(driver, name, event, (int64_t)number * 100, count)->status, HISTORY_DONE);
        assert_int_equal(driver->result.changes[0].outcome, HISTORY_APPLIED);
        assert_int_equal(driver->result.changes[0].count, here->count + count);
    }
    here->known = true;
    for (size_t i = 0; i < count; i++)
        here->items[here->length++] = (int64_t)(number * 100 + i);
    here->count += count;
    if (*event != '\0') {
        snprintf(here->event_ids[here->events], sizeof here->event_ids[0], "%s", event);
        here->event_counts[here->events++] = here->count;
    }
}

/* The store is open and empty, and keeps PLAIN_KEEP behaviours. */
static inline void against_plain_arrays(struct driver *driver) {
    uint64_t random = 16;
    memset(plain, 0, sizeof plain);
    for (size_t i = 0; i < PLAIN_STEPS; i++) {
        plain_step(driver, &random, i + 1);
        if (i % 8 == 0)
            plain_compare(driver, random_bits(&random) % PLAIN_USERS);
        arena_reset(&driver->arena);
    }
    for (size_t i = 0; i < PLAIN_USERS; i++)
        plain_compare(driver, i);
}

#endif
