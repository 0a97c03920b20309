/* breaker.c: counts failures in a row, and times the pauses. */
#include "server/histories/breaker.h"

bool breaker_allows(struct breaker *breaker, uint64_t now) {
    if (!breaker->open)
        return true;
    if (breaker->probing || now < breaker->until)
        return false;
    breaker->probing = true;
    return true;
}

void breaker_report(struct breaker *breaker, uint64_t now, bool good) {
    if (good) {
        *breaker = (struct breaker){.opened = breaker->opened};
        return;
    }
    breaker->failures++;
    /* Failures of calls that were made before it opened say nothing new. */
    if (breaker->open ? !breaker->probing : breaker->failures < BREAKER_FAILURES)
        return;
    breaker->pause = breaker->open ? 2 * breaker->pause : BREAKER_FIRST_PAUSE;
    if (breaker->pause > BREAKER_MOST_PAUSE)
        breaker->pause = BREAKER_MOST_PAUSE;
    breaker->opened += !breaker->open;
    breaker->open = true;
    breaker->probing = false;
    breaker->until = now + breaker->pause;
}
