/* sample_check.h: a checkpoint proves itself: score samples.json and compare with what the training code gave. */
#ifndef SERVER_SCORING_SAMPLE_CHECK_H
#define SERVER_SCORING_SAMPLE_CHECK_H

#include "server/scoring/request.h"

struct samples_report {
    size_t samples;
    size_t scores;
    double largest;    /* largest |difference| seen */
    char message[512]; /* on failure: which file, sample and candidate, and by how much */
};

/* True when every score of the samples, the text of a samples.json, is within `tolerance`. */
bool samples_prove_text(struct scorer *scorer, const char *text, size_t size, double tolerance,
                        struct samples_report *report);
/* samples_prove_text() of DIRECTORY/samples.json. */
bool samples_prove(struct scorer *scorer, const char *directory, double tolerance, struct samples_report *report);

#endif
