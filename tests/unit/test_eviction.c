/* test_eviction.c: the order in which users are evicted: S3-FIFO against traces worked out by hand.
 *
 * A user is a letter. A queue is written as its users, the oldest first: with small "AB" and main "C", A is the next to
 * leave `small`. A2 is user A with two uses left. A user takes one block unless a test says otherwise.
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

/* `uses` starts with rubbish, which eviction_insert() must not trust. */
static void insert_hashed(char user, uint32_t blocks, uint64_t hash) {
    struct block_chain chain = block_pool_take(&shard.pool, blocks);
    assert_int_equal(chain.count, blocks);
    shard.entry[(unsigned char)user] = chain.first;
    *entry_of(user) = (struct user_entry){.hash = hash, .last = chain.last, .count = chain.count, .uses = 3};
    eviction_insert(&shard.eviction, chain.first);
}

/* The hash's low bits choose the ghost, its high bits are the fingerprint: "a" shares the ghost of "A", but has another
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

/* Returns the evicted user; '-': none. */
static char evict(uint32_t kept) {
    uint32_t chosen = eviction_choose(&shard.eviction, kept);
    char user = user_of(chosen);
    if (chosen != BLOCK_NONE)
        give_back(user);
    return user;
}

/* The next evictions are of these users, one by one. */
static void check_evicted(const char *users) {
    char evicted[LETTERS] = "";
    for (size_t i = 0; users[i] != '\0'; i++)
        evicted[i] = evict(BLOCK_NONE);
    assert_string_equal(evicted, users);
}

/* Checks the links in both directions, and the sums. */
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

/* Starts with users in `main`, without uses: two uses took each there, past a large stranger with none. */
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

/* ---- no users, or one */

static void an_empty_shard_evicts_nobody(void **state) {
    (void)state;
    check_queues("", "");
    check_evicted("-");
    insert("A");
    assert_int_equal(evict(number_of('A')), '-'); /* the only one is the kept one */
    check_queues("A", "");
    check_evicted("A-");
    check_queues("", "");
    insert_in_main("A", 1);
    touch("AAA");
    assert_int_equal(evict(number_of('A')), '-');
    check_evicted("A-");
    check_queues("", "");
}

static void a_removed_user_is_in_no_queue(void **state) {
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

static void unused_entries_leave_in_order_of_arrival(void **state) {
    (void)state;
    insert("ABCD");
    check_queues("ABCD", "");
    check_evicted("AB");
    insert("E");
    check_queues("CDE", "");
    check_evicted("CDE-");
}

/* A1 B2 C0 D3, all in `small`. A goes, since one use is not enough. B moves on; small "CD" has 2 of 3 blocks, more than
 * a tenth, so C goes. Small "D" has 1 of 2, so D moves on. The uses that brought B and D to `main` are spent: B0 goes,
 * then D0. */
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

/* With 1 block of 10, `small` has no more than its tenth, so `main` gives. With 1 of 9 it has more and gives. */
static void small_has_a_tenth_of_the_blocks(void **state) {
    (void)state;
    insert_in_main("M", 9);
    insert("S");
    check_evicted("MS");
    insert_in_main("M", 8);
    insert("S");
    check_evicted("SM");
}

/* A resized entry changes its queue's share. */
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

/* A is used ten times, which counts as 3, B 3 times, C twice, D once, E never. A3 B3 C2 D1 E0: all but E get a round, E
 * goes. A2 B2 C1 D0: D goes. A1 B1 C0: C goes. A0 B0: A, B. With a limit of 4 uses B would go before A; with 2, A
 * before C. */
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

/* A2 B1 C0 D0: A and B get a round, C goes: D0 A1 B0. A is used: A2. D goes. A gets a round, B goes. */
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

/* ---- the kept entry */

/* A is the oldest of `small`: it moves on although unused, and B goes. */
static void small_lets_the_kept_one_move_on(void **state) {
    (void)state;
    insert("ABC");
    assert_int_equal(evict(number_of('A')), 'B');
    check_queues("C", "A");
    assert_int_equal(evict(number_of('A')), 'C');
    assert_int_equal(evict(number_of('A')), '-');
    check_queues("", "A");
}

/* A0 B0 C0 D0, A is kept: it gets a round without a use, and B goes. C1 D1 A0: then A goes as any other would. */
static void main_gives_the_kept_one_a_round(void **state) {
    (void)state;
    insert_in_main("ABCD", 1);
    assert_int_equal(evict(number_of('A')), 'B');
    check_queues("", "CDA");
    touch("CD");
    check_evicted("A");
    check_queues("", "CD");
}

/* ---- ghosts */

static void a_returning_user_enters_main(void **state) {
    (void)state;
    insert("ABC");
    check_evicted("A");
    insert("DA");
    check_queues("BCD", "A");
}

/* A comes back with 42 blocks. Small "aBCDE" has 5 of 47, more than a tenth: a goes and takes the ghost over. Small
 * "BCDE" has 4 of 46: A goes, from `main`. When both come back, A is new and a is remembered. */
static void an_eviction_from_main_is_not_remembered(void **state) {
    (void)state;
    insert("AaBCDE");
    check_evicted("A");
    insert_large('A', 42);
    check_evicted("aA");
    insert("Aa");
    check_queues("BCDEA", "a");
}

static void a_removed_user_is_not_remembered(void **state) {
    (void)state;
    insert("AB");
    leave("A");
    insert("A");
    check_queues("BA", "");
}

/* Both leave, a last, so the ghost they share is a's. A user with hash 0 does not match an empty ghost. */
static void a_ghost_is_its_last_users(void **state) {
    (void)state;
    insert("AaBC");
    check_evicted("Aa");
    insert("Aa");
    check_queues("BCA", "a");
    insert_hashed('0', 1, 0);
    check_queues("BCA0", "a");
}

/* Of 20 users 10 leave, A first. As many are remembered as nine tenths of the 10 that stay: those from B on. With one
 * more entry one more is remembered: A. */
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

/* ---- all rules together */

/* A request in a shard of four blocks. Returns the user evicted for it; '.': none. */
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

/* The column `left` lists evictions from `small`, the latest last. With 3 entries when a newcomer enters, the last 3
 * are remembered.
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
 *   H         C      H       GAB                A and B get a round
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
        cmocka_unit_test_setup_teardown(an_empty_shard_evicts_nobody, make, finish),
        cmocka_unit_test_setup_teardown(a_removed_user_is_in_no_queue, make, finish),
        cmocka_unit_test_setup_teardown(unused_entries_leave_in_order_of_arrival, make, finish),
        cmocka_unit_test_setup_teardown(two_uses_lead_to_main_and_are_spent, make, finish),
        cmocka_unit_test_setup_teardown(small_has_a_tenth_of_the_blocks, make, finish),
        cmocka_unit_test_setup_teardown(an_entry_counts_with_its_present_size, make, finish),
        cmocka_unit_test_setup_teardown(main_gives_a_round_for_each_use_and_three_at_most, make, finish),
        cmocka_unit_test_setup_teardown(a_use_between_rounds_is_another_round, make, finish),
        cmocka_unit_test_setup_teardown(small_lets_the_kept_one_move_on, make, finish),
        cmocka_unit_test_setup_teardown(main_gives_the_kept_one_a_round, make, finish),
        cmocka_unit_test_setup_teardown(a_returning_user_enters_main, make, finish),
        cmocka_unit_test_setup_teardown(an_eviction_from_main_is_not_remembered, make, finish),
        cmocka_unit_test_setup_teardown(a_removed_user_is_not_remembered, make, finish),
        cmocka_unit_test_setup_teardown(a_ghost_is_its_last_users, make, finish),
        cmocka_unit_test_setup_teardown(as_many_are_remembered_as_main_may_hold, make, finish),
        cmocka_unit_test_setup_teardown(a_trace_of_all_rules, make, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
