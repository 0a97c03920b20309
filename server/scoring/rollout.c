/* rollout.c: a user's side by a keyed hash, which is one on all machines. */
#include "server/scoring/rollout.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

const char *const candidate_drop_names[CANDIDATE_DROPS] = {
    [DROP_ASKED] = "asked", [DROP_NO_NUMBER] = "no-number", [DROP_SLOW] = "slow", [DROP_DIFFERENT] = "different"};

uint64_t rollout_key(const char *text, size_t length) {
    return XXH3_64bits(text, length);
}

double rollout_place(uint64_t key, const char *id, size_t length) {
    return 0x1p-53 * (double)(XXH3_64bits_withSeed(id, length, key) >> 11);
}

struct served_model *rollout_choose(const struct rollout *rollout, struct served_model *live, const char *id,
                                    size_t length) {
    bool is_canary = rollout->candidate != NULL && rollout->shares.canary > 0 &&
                     rollout_place(rollout->key, id, length) < rollout->shares.canary;
    return is_canary ? rollout->candidate : live;
}
