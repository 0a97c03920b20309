/* test_eviction.c: who leaves a shard, in which order: S3-FIFO against traces that were worked by hand.
 *
 * A user is a letter. A queue is written as its users, the oldest first: small "AB" and main "C" say that A is the next
 * to go from `small`. A2 is a user A whose entry has two uses left. Where nothing else is said a user takes one block.
 */
#include "server/users/eviction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 256, GHOSTS = 64, LETTERS = 128 };

static struct {
    struct block_pool pool;
    struct eviction eviction;
    struct eviction_ghost ghosts[GHOSTS];
    uint32_t entry[LETTERS]; /* a user's, or BLOCK_NONE */
} shard;

static int make(void **state) {
    (void)state;
    memset(&shard, 0, sizeof shard);
    for (int i = 0; i < LETTERS; i++)
        shard.entry[i] = BLOCK_NONE;
    if (!block_pool_init(&shard.pool, BLOCKS))
        return -1;
    eviction_init(&shard.eviction, &shard.pool, shard.ghosts, GHOSTS);
    return 0;
}

static int finish(void **state) {
    (void)state;
    block_pool_free(&shard.pool);
    return 0;
}

/* ---- users come and go */

static uint32_t number_of(char user) {
    return shard.entry[(unsigned char)user];
}

static struct user_entry *entry_of(char user) {
    return user_entry_at(&shard.pool, number_of(user));
}

static char user_of(uint32_t number) {
    for (char user = 1; number != BLOCK_NONE && user < LETTERS - 1; user++)
        if (number_of(user) == number)
            return user;
    return '-';
}

/* What another entry left in `uses` says nothing of this one. */
static void insert_hashed(char user, uint32_t blocks, uint64_t hash) {
    struct block_chain chain = block_pool_take(&shard.pool, blocks);
    assert_int_equal(chain.count, blocks);
    shard.entry[(unsigned char)user] = chain.first;
    *entry_of(user) = (struct user_entry){.hash = hash, .last = chain.last, .count = chain.count, .uses = 3};
    eviction_insert(&shard.eviction, chain.first);
}

/* The low bits choose what remembers the user, the high ones are his fingerprint: "a" has the slot of "A", and another
 * fingerprint. */
static void insert_large(char user, uint32_t blocks) {
    insert_hashed(user, blocks, (uint64_t)user << 33 | (user & 31));
}

static void insert(const char *users) {
    for (; *users != '\0'; users++)
        insert_large(*users, 1);
}

static void touch(const char *users) {
    for (; *users != '\0'; users++)
        eviction_touch(entry_of(*users));
}

static struct block_chain chain_of(char user) {
    return (struct block_chain){number_of(user), entry_of(user)->last, entry_of(user)->count};
}

static void resize(char user, uint32_t blocks) {
    struct block_chain chain = chain_of(user);
    eviction_resize(&shard.eviction, entry_of(user), (int64_t)blocks - chain.count);
    if (blocks > chain.count)
        block_chain_join(&shard.pool, &chain, block_pool_take(&shard.pool, blocks - chain.count));
    else
        block_pool_give(&shard.pool, block_chain_cut(&shard.pool, &chain, blocks));
    entry_of(user)->last = chain.last;
    entry_of(user)->count = chain.count;
}

static void give_back(char user) {
    block_pool_give(&shard.pool, chain_of(user));
    shard.entry[(unsigned char)user] = BLOCK_NONE;
}

static void leave(const char *users) {
    for (; *users != '\0'; users++) {
        eviction_remove(&shard.eviction, number_of(*users));
        give_back(*users);
    }
}

/* Who goes, '-' for nobody. */
static char evict(uint32_t kept) {
    uint32_t chosen = eviction_choose(&shard.eviction, kept);
    char user = user_of(chosen);
    if (chosen != BLOCK_NONE)
        give_back(user);
    return user;
}

/* These go next, one by one. */
static void check_evicted(const char *users) {
    char evicted[LETTERS] = "";
    for (size_t i = 0; users[i] != '\0'; i++)
        evicted[i] = evict(BLOCK_NONE);
    assert_string_equal(evicted, users);
}

/* Links both ways, and the sums. */
static void check_queue(int queue, const char *users) {
    size_t length = strlen(users), blocks = 0;
    uint32_t number = shard.eviction.queues[queue].oldest, before = BLOCK_NONE;
    char held[LETTERS] = "";
    for (size_t i = 0; number != BLOCK_NONE && i < LETTERS - 1; i++) {
        const struct user_entry *entry = user_entry_at(&shard.pool, number);
        held[i] = user_of(number);
        assert_int_equal(entry->older, before);
        blocks += entry->count;
        before = number;
        number = entry->newer;
    }
    assert_string_equal(held, users);
    assert_int_equal(shard.eviction.queues[queue].newest, before);
    assert_int_equal(shard.eviction.queues[queue].entries, length);
    assert_int_equal(shard.eviction.queues[queue].blocks, blocks);
}

static void check_queues(const char *in_small, const char *in_main) {
    check_queue(EVICTION_SMALL, in_small);
    check_queue(EVICTION_MAIN, in_main);
}

/* To begin with: users in `main`, unused. Two uses took each there, past a large stranger who had none. */
static void insert_in_main(const char *users, uint32_t blocks) {
    static uint64_t strangers;
    for (const char *user = users; *user != '\0'; user++)
        insert_large(*user, blocks);
    touch(users);
    touch(users);
    insert_hashed('?', 64, ++strangers << 32 | 31);
    check_evicted("?");
    check_queues("", users);
}

/* ---- nobody, or one */

static void of_nobody_there_is_none_to_go(void **state) {
    (void)state;
    check_queues("", "");
    check_evicted("-");
    insert("A");
    assert_int_equal(evict(number_of('A')), '-'); /* the only one is to be kept */
    check_queues("A", "");
    check_evicted("A-");
    check_queues("", "");
    insert_in_main("A", 1);
    touch("AAA");
    assert_int_equal(evict(number_of('A')), '-');
    check_evicted("A-");
    check_queues("", "");
}

static void who_is_taken_out_is_in_no_queue(void **state) {
    (void)state;
    insert_in_main("VWXYZ", 1);
    insert("ABCDE");
    leave("CX");
    check_queues("ABDE", "VWYZ");
    leave("AV");
    check_queues("BDE", "WYZ");
    leave("EZ");
    check_queues("BD", "WY");
    leave("BDWY");
    check_queues("", "");
    insert("F");
    check_queues("F", "");
}

/* ---- small */

static void who_is_not_used_leaves_in_the_order_of_coming(void **state) {
    (void)state;
    insert("ABCD");
    check_queues("ABCD", "");
    check_evicted("AB");
    insert("E");
    check_queues("CDE", "");
    check_evicted("CDE-");
}

/* A1 B2 C0 D3, all in `small`. A goes: one use was not enough. B moves on; small "CD" has 2 of 3 blocks, more than a
 * tenth, so C goes. Small "D" has 1 of 2: D moves on. The uses that brought B and D to `main` are spent: B0 goes, D0.
 */
static void two_uses_lead_to_main_and_are_spent(void **state) {
    (void)state;
    insert("ABCD");
    touch("ABBDDD");
    check_evicted("A");
    check_queues("BCD", "");
    check_evicted("C");
    check_queues("D", "B");
    check_evicted("B");
    check_queues("", "D");
    check_evicted("D-");
}

/* With 1 block of 10 `small` has its tenth and no more: `main` gives. With 1 of 9 it has more: `small` gives. */
static void small_has_a_tenth_of_the_blocks(void **state) {
    (void)state;
    insert_in_main("M", 9);
    insert("S");
    check_evicted("MS");
    insert_in_main("M", 8);
    insert("S");
    check_evicted("SM");
}

/* The same, where a state came to its size later. */
static void an_entry_counts_with_its_present_size(void **state) {
    (void)state;
    insert_in_main("M", 3);
    insert("S");
    resize('M', 9);
    check_queues("S", "M");
    check_evicted("MS");
    insert_in_main("M", 20);
    insert("S");
    resize('M', 8);
    check_queues("S", "M");
    check_evicted("SM");
    insert_in_main("M", 9);
    insert("S");
    resize('S', 2);
    check_queues("S", "M");
    check_evicted("SM");
}

/* ---- main */

/* A is used ten times, which counts for 3, B 3 times, C twice, D once, E not. A3 B3 C2 D1 E0: all but E have a round,
 * E goes. A2 B2 C1 D0: D goes. A1 B1 C0: C goes. A0 B0: A, B. If 4 counted, B would go before A; if 2, A before C. */
static void main_gives_a_round_for_each_use_and_three_at_most(void **state) {
    (void)state;
    insert_in_main("ABCDE", 1);
    touch("AAAAAAAAAABBBCCD");
    check_evicted("E");
    check_queues("", "ABCD");
    check_evicted("D");
    check_queues("", "ABC");
    check_evicted("C");
    check_queues("", "AB");
    check_evicted("AB-");
}

/* A2 B1 C0 D0: A and B have a round, C goes: D0 A1 B0. A is used: A2. D goes. A has a round, B goes. */
static void a_use_between_rounds_is_another_round(void **state) {
    (void)state;
    insert_in_main("ABCD", 1);
    touch("AAB");
    check_evicted("C");
    check_queues("", "DAB");
    touch("A");
    check_evicted("DB");
    check_queues("", "A");
}

/* ---- who is kept whatever his turn is */

/* A is the oldest of `small`: he moves on, unused as he is, and B goes. */
static void small_lets_the_kept_one_move_on(void **state) {
    (void)state;
    insert("ABC");
    assert_int_equal(evict(number_of('A')), 'B');
    check_queues("C", "A");
    assert_int_equal(evict(number_of('A')), 'C');
    assert_int_equal(evict(number_of('A')), '-');
    check_queues("", "A");
}

/* A0 B0 C0 D0, A is kept: he has a round for nothing and B goes. C1 D1 A0: then it is A's turn as any other's. */
static void main_gives_the_kept_one_a_round(void **state) {
    (void)state;
    insert_in_main("ABCD", 1);
    assert_int_equal(evict(number_of('A')), 'B');
    check_queues("", "CDA");
    touch("CD");
    check_evicted("A");
    check_queues("", "CD");
}

/* ---- who is remembered */

static void who_comes_back_enters_main(void **state) {
    (void)state;
    insert("ABC");
    check_evicted("A");
    insert("DA");
    check_queues("BCD", "A");
}

/* A comes back with 42 blocks; small "aBCDE" has 5 of 47, more than a tenth: a goes, and takes A's place in what is
 * remembered. Small "BCDE" has 4 of 46: A goes, from `main`. Back again, he is new, and a is not. */
static void who_leaves_main_is_not_remembered(void **state) {
    (void)state;
    insert("AaBCDE");
    check_evicted("A");
    insert_large('A', 42);
    check_evicted("aA");
    insert("Aa");
    check_queues("BCDEA", "a");
}

static void who_is_taken_out_is_not_remembered(void **state) {
    (void)state;
    insert("AB");
    leave("A");
    insert("A");
    check_queues("BA", "");
}

/* Both leave, a last: the slot they share says a. A user whose hash is 0 is not what an empty slot says. */
static void a_slot_remembers_its_last_user(void **state) {
    (void)state;
    insert("AaBC");
    check_evicted("Aa");
    insert("Aa");
    check_queues("BCA", "a");
    insert_hashed('0', 1, 0);
    check_queues("BCA0", "a");
}

/* Of 20 users 10 leave, A first; as many are remembered as nine tenths of the 10 that are there: those from B on. With
 * one more there it is one more: A. */
static void as_many_are_remembered_as_main_may_hold(void **state) {
    (void)state;
    insert("ABCDEFGHIJKLMNOPQRST");
    check_evicted("ABCDEFGHIJ");
    insert("A");
    check_queues("KLMNOPQRSTA", "");
    leave("A");
    insert("B");
    check_queues("KLMNOPQRST", "B");
    insert("A");
    check_queues("KLMNOPQRST", "BA");
}

/* ---- all of it */

/* A request in a shard of four blocks: who goes for it, '.' for nobody. */
static char serve(char user) {
    char evicted = '.';
    if (number_of(user) != BLOCK_NONE) {
        touch((char[]){user, '\0'});
    } else {
        if (block_pool_used(&shard.pool) == 4)
            evicted = evict(BLOCK_NONE);
        insert_large(user, 1);
    }
    return evicted;
}

/* In `left` is how many have left `small` before, which tells how long ago one did: as there are 3 when a newcomer
 * enters, the last 3 are remembered.
 *
 *   request   goes   small   main        left
 *   AAABCD           ABCD                       A2, the others 0
 *   E         B      CDE     A           B      A moves on
 *   B         C      DE      AB          BC     B is remembered
 *   A                DE      AB                 A1
 *   F         D      EF      AB          BCD
 *   C         E      F       ABC         BCDE   C is the third from the end
 *   B                F       ABC                B1
 *   G         F      G       ABC         BCDEF
 *   D         G      D       ABC         ..EFG  D is the fourth from the end: new
 *   G         D              ABCG        ..FGD  G is remembered
 *   H         C      H       GAB                A and B have a round
 *   AABH                     GAB                A2 B1 H1
 *   I         H      I       GAB         ..GDH  one use is not enough */
static void a_trace_of_all_rules(void **state) {
    (void)state;
    static const char requests[] = "AAABCDEBAFCBGDGHAABHI", goes[] = "......BC.DE.FGDC....H";
    char evicted[sizeof requests] = "";
    for (size_t i = 0; requests[i] != '\0'; i++)
        evicted[i] = serve(requests[i]);
    assert_string_equal(evicted, goes);
    check_queues("I", "GAB");
    check_evicted("IGBA-"); /* A2 B1 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_nobody_there_is_none_to_go, make, finish),
        cmocka_unit_test_setup_teardown(who_is_taken_out_is_in_no_queue, make, finish),
        cmocka_unit_test_setup_teardown(who_is_not_used_leaves_in_the_order_of_coming, make, finish),
        cmocka_unit_test_setup_teardown(two_uses_lead_to_main_and_are_spent, make, finish),
        cmocka_unit_test_setup_teardown(small_has_a_tenth_of_the_blocks, make, finish),
        cmocka_unit_test_setup_teardown(an_entry_counts_with_its_present_size, make, finish),
        cmocka_unit_test_setup_teardown(main_gives_a_round_for_each_use_and_three_at_most, make, finish),
        cmocka_unit_test_setup_teardown(a_use_between_rounds_is_another_round, make, finish),
        cmocka_unit_test_setup_teardown(small_lets_the_kept_one_move_on, make, finish),
        cmocka_unit_test_setup_teardown(main_gives_the_kept_one_a_round, make, finish),
        cmocka_unit_test_setup_teardown(who_comes_back_enters_main, make, finish),
        cmocka_unit_test_setup_teardown(who_leaves_main_is_not_remembered, make, finish),
        cmocka_unit_test_setup_teardown(who_is_taken_out_is_not_remembered, make, finish),
        cmocka_unit_test_setup_teardown(a_slot_remembers_its_last_user, make, finish),
        cmocka_unit_test_setup_teardown(as_many_are_remembered_as_main_may_hold, make, finish),
        cmocka_unit_test_setup_teardown(a_trace_of_all_rules, make, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
