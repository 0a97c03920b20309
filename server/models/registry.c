/* registry.c: slots of models, and the thread that loads and closes them. */
#include "server/models/registry.h"

#include "server/base/thread.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CANCEL_SECONDS = 2 };

const char *const model_slot_names[MODEL_SLOTS] = {
    [SLOT_LIVE] = "live", [SLOT_PREVIOUS] = "previous", [SLOT_CANDIDATE] = "candidate"};

enum load_state { LOAD_NONE, LOAD_WANTED, LOAD_RUNS, LOAD_ENDED };

struct registry {
    struct registry_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work_available, load_ended;
    /* Guarded by the mutex. */
    enum load_state state;
    char path[PATH_MAX];
    const char *by;
    struct loaded loaded;
    struct served_model *unused;   /* to be closed */
    struct served_model *previous; /* held while the load runs, which may find it again; NULL: none */
    struct rollout_shares shares;  /* of the candidate that is loaded */
    size_t bytes_beside_live;      /* of models that stay when another goes live, */
    size_t bytes_beside_candidate; /* and when a candidate comes */
    bool is_candidate;             /* that is loaded */
    bool stopping;
    atomic_bool cancelled;
    char target[PATH_MAX]; /* of the link at the last load; the registry's thread's */
    /* The loop's thread's. */
    struct served_model *slots[MODEL_SLOTS];
    uint64_t last_version;
    struct registry_counts counts;
    char failure[sizeof((struct loaded *)NULL)->message];
};

/* ---- the thread */

static void close_unused(struct registry *registry) {
    while (registry->unused != NULL) {
        struct served_model *served = registry->unused;
        registry->unused = served->next;
        pthread_mutex_unlock(&registry->mutex);
        served_model_close(served);
        pthread_mutex_lock(&registry->mutex);
    }
}

/* The target of --model; "" where it is no symbolic link, or nobody wants to know. */
static void read_link(const struct registry *registry, char target[PATH_MAX]) {
    bool wanted = registry->options.poll_seconds > 0;
    ssize_t length = wanted ? readlink(registry->options.poll_path, target, PATH_MAX - 1) : 0;
    target[length > 0 ? length : 0] = '\0';
}

static void load_wanted(struct registry *registry) {
    struct served_model *previous = registry->previous != NULL ? served_model_hold(registry->previous) : NULL;
    const struct registry_options *options = &registry->options;
    bool is_candidate = registry->is_candidate;
    const struct load load = {.root = is_candidate ? options->root : NULL,
                              .directory = registry->path,
                              .precision = options->precision,
                              .tolerance = options->tolerance,
                              .prefault = options->prefault,
                              .threads = options->threads,
                              .copy = options->copy,
                              .memory_limit = options->memory_limit,
                              .memory_held =
                                  is_candidate ? registry->bytes_beside_candidate : registry->bytes_beside_live,
                              .previous = is_candidate ? NULL : previous,
                              .cancelled = &registry->cancelled};
    struct loaded loaded;
    registry->state = LOAD_RUNS;
    pthread_mutex_unlock(&registry->mutex);
    if (!is_candidate)
        read_link(registry, registry->target);
    loader_load(&load, &loaded);
    loaded.is_candidate = is_candidate;
    loaded.previous_version = loaded.is_previous && previous != NULL ? previous->version : 0;
    served_model_release(previous);
    pthread_mutex_lock(&registry->mutex);
    loaded.shares = registry->shares;
    registry->loaded = loaded;
    registry->state = LOAD_ENDED;
    pthread_cond_broadcast(&registry->load_ended);
    pthread_mutex_unlock(&registry->mutex);
    options->wake(options->context);
    pthread_mutex_lock(&registry->mutex);
}

/* From the first load on requests are scored, and whatever this thread does may wait for them: processors and disk. */
static void become_idle(void) {
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_IDLE = 3 << 13 };
    /* Not SCHED_IDLE: on a machine whose processors are all busy, a load would then hardly end. */
    (void)!setpriority(PRIO_PROCESS, 0, 19); /* on Linux of this thread alone */
    (void)!syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
}

/* True when the link has another target than at the last load, which is then to be loaded. */
static bool poll_link(struct registry *registry) {
    const struct registry_options *options = &registry->options;
    char target[PATH_MAX];
    if (options->poll_seconds == 0 || registry->state != LOAD_NONE || registry->cancelled)
        return false;
    pthread_mutex_unlock(&registry->mutex);
    read_link(registry, target);
    pthread_mutex_lock(&registry->mutex);
    bool changed = *target != '\0' && strcmp(target, registry->target) != 0;
    if (!changed || registry->state != LOAD_NONE)
        return false;
    registry->state = LOAD_WANTED;
    registry->by = "poll";
    registry->is_candidate = false;
    snprintf(registry->path, sizeof registry->path, "%s", options->poll_path);
    return true;
}

/* Work that came while poll_link() had no lock gave its signal to nobody. */
static bool has_work(const struct registry *registry) {
    return registry->stopping || registry->unused != NULL || registry->state == LOAD_WANTED;
}

static void wait_for_work(struct registry *registry) {
    double seconds = registry->options.poll_seconds;
    struct timespec limit;
    if (has_work(registry))
        return;
    if (seconds == 0) {
        pthread_cond_wait(&registry->work_available, &registry->mutex);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += (time_t)seconds;
    limit.tv_nsec += (long)(1e9 * (seconds - floor(seconds)));
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&registry->work_available, &registry->mutex, &limit);
}

static void *run(void *argument) {
    struct registry *registry = argument;
    pthread_mutex_lock(&registry->mutex);
    while (!registry->stopping) {
        if (registry->unused != NULL) {
            close_unused(registry);
        } else if (registry->state == LOAD_WANTED) {
            load_wanted(registry);
            become_idle();
        } else if (!poll_link(registry)) {
            wait_for_work(registry);
        }
    }
    close_unused(registry);
    pthread_mutex_unlock(&registry->mutex);
    return NULL;
}

/* A model's last reference was given back, on any thread. */
static void take_unused(void *context, struct served_model *served) {
    struct registry *registry = context;
    pthread_mutex_lock(&registry->mutex);
    served->next = registry->unused;
    registry->unused = served;
    pthread_cond_signal(&registry->work_available);
    pthread_mutex_unlock(&registry->mutex);
}

struct registry *registry_start(const struct registry_options *options) {
    struct registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL)
        return NULL;
    registry->options = *options;
    pthread_mutex_init(&registry->mutex, NULL);
    pthread_cond_init(&registry->work_available, NULL);
    pthread_cond_init(&registry->load_ended, NULL);
    if (thread_start(&registry->thread, "models", run, registry))
        return registry;
    free(registry);
    return NULL;
}

/* ---- loads */

/* `shares` is NULL for a model that is to go live. */
static bool begin_load(struct registry *registry, const char *path, const char *by,
                       const struct rollout_shares *shares) {
    pthread_mutex_lock(&registry->mutex);
    bool begins = registry->state == LOAD_NONE && !registry->cancelled;
    if (begins) {
        registry->state = LOAD_WANTED;
        registry->by = by;
        registry->is_candidate = shares != NULL;
        registry->shares = shares != NULL ? *shares : (struct rollout_shares){.canary = 0};
        snprintf(registry->path, sizeof registry->path, "%s", path);
        pthread_cond_signal(&registry->work_available);
    }
    pthread_mutex_unlock(&registry->mutex);
    registry->counts.busy += !begins;
    return begins;
}

bool registry_load(struct registry *registry, const char *path, const char *by) {
    return begin_load(registry, path, by, NULL);
}

bool registry_load_candidate(struct registry *registry, const char *path, const char *by,
                             struct rollout_shares shares) {
    return begin_load(registry, path, by, &shares);
}

bool registry_is_loading(struct registry *registry) {
    pthread_mutex_lock(&registry->mutex);
    bool loading = registry->state != LOAD_NONE;
    pthread_mutex_unlock(&registry->mutex);
    return loading;
}

static void note_refusal(struct registry *registry, const char *message) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(registry->counts.failure_at, sizeof registry->counts.failure_at, "%Y-%m-%dT%H:%M:%SZ", &parts);
    registry->counts.failed_at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    registry->counts.refusals++;
    snprintf(registry->failure, sizeof registry->failure, "%s", message);
}

bool registry_take(struct registry *registry, struct loaded *loaded) {
    pthread_mutex_lock(&registry->mutex);
    bool ended = registry->state == LOAD_ENDED;
    if (ended) {
        *loaded = registry->loaded;
        registry->state = LOAD_NONE;
    }
    const char *by = registry->by;
    pthread_mutex_unlock(&registry->mutex);
    if (ended && loaded->served != NULL) {
        loaded->served->loaded_by = by;
        loaded->served->unused = take_unused;
        loaded->served->context = registry;
    } else if (ended && !loaded->is_previous) {
        note_refusal(registry, loaded->message);
    }
    return ended;
}

void registry_refuse(struct registry *registry, struct served_model *served, const char *message) {
    note_refusal(registry, message);
    served_model_release(served);
}

bool registry_cancel(struct registry *registry) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += CANCEL_SECONDS;
    registry->cancelled = true;
    pthread_mutex_lock(&registry->mutex);
    int status = 0;
    while ((registry->state == LOAD_WANTED || registry->state == LOAD_RUNS) && status == 0)
        status = pthread_cond_timedwait(&registry->load_ended, &registry->mutex, &limit);
    pthread_mutex_unlock(&registry->mutex);
    return status == 0;
}

/* ---- slots */

static size_t slot_bytes(const struct registry *registry, enum model_slot slot) {
    const struct served_model *served = registry->slots[slot];
    return served != NULL ? dien_mapped_bytes(served->model) + dien_packed_bytes(served->model) : 0;
}

size_t registry_bytes(const struct registry *registry) {
    return slot_bytes(registry, SLOT_LIVE) + slot_bytes(registry, SLOT_PREVIOUS) + slot_bytes(registry, SLOT_CANDIDATE);
}

/* Tells the registry's thread of changed slots. It holds the previous model, which a load may find again. The live one
 * stays in memory beside a new one; the previous one leaves when that goes live, and a candidate when another comes. */
static void publish_slots(struct registry *registry) {
    struct served_model *previous = registry->slots[SLOT_PREVIOUS];
    pthread_mutex_lock(&registry->mutex);
    struct served_model *before = registry->previous;
    registry->previous = previous != NULL ? served_model_hold(previous) : NULL;
    registry->bytes_beside_live = slot_bytes(registry, SLOT_LIVE) + slot_bytes(registry, SLOT_CANDIDATE);
    registry->bytes_beside_candidate = slot_bytes(registry, SLOT_LIVE) + slot_bytes(registry, SLOT_PREVIOUS);
    pthread_mutex_unlock(&registry->mutex);
    served_model_release(before);
}

static bool same_files(const struct served_model *a, const struct served_model *b) {
    return strcmp(a->config_sha256, b->config_sha256) == 0 && strcmp(a->weights_sha256, b->weights_sha256) == 0;
}

/* A model of the files of another one has that one's version, so that user states are good for both. */
static void number_version(struct registry *registry, struct served_model *served) {
    struct served_model *const *slots = registry->slots;
    for (size_t i = 0; i < MODEL_SLOTS && served->version == 0; i++) {
        if (slots[i] != NULL && same_files(slots[i], served))
            served->version = slots[i]->version;
    }
    if (served->version == 0)
        served->version = ++registry->last_version;
}

static void take_live_slot(struct registry *registry, struct served_model *served) {
    struct served_model **slots = registry->slots;
    bool replaces = slots[SLOT_LIVE] == NULL || same_files(slots[SLOT_LIVE], served);
    struct served_model *leaving = slots[replaces ? SLOT_LIVE : SLOT_PREVIOUS];
    if (!replaces)
        slots[SLOT_PREVIOUS] = slots[SLOT_LIVE];
    slots[SLOT_LIVE] = served;
    served_model_release(leaving);
    if (!registry->options.keep_previous) {
        served_model_release(slots[SLOT_PREVIOUS]);
        slots[SLOT_PREVIOUS] = NULL;
    }
    publish_slots(registry);
}

void registry_go_live(struct registry *registry, struct served_model *served) {
    number_version(registry, served);
    take_live_slot(registry, served);
    registry->counts.lives++;
}

void registry_set_candidate(struct registry *registry, struct served_model *served) {
    number_version(registry, served);
    served_model_release(registry->slots[SLOT_CANDIDATE]);
    registry->slots[SLOT_CANDIDATE] = served;
    registry->counts.candidates++;
    publish_slots(registry);
}

bool registry_promote(struct registry *registry) {
    struct served_model *candidate = registry->slots[SLOT_CANDIDATE];
    if (candidate == NULL)
        return false;
    registry->slots[SLOT_CANDIDATE] = NULL;
    take_live_slot(registry, candidate);
    registry->counts.promotions++;
    return true;
}

bool registry_drop(struct registry *registry, enum candidate_drop reason) {
    struct served_model *candidate = registry->slots[SLOT_CANDIDATE];
    if (candidate == NULL)
        return false;
    registry->slots[SLOT_CANDIDATE] = NULL;
    publish_slots(registry);
    served_model_release(candidate);
    registry->counts.drops[reason]++;
    return true;
}

bool registry_roll_back(struct registry *registry) {
    struct served_model **slots = registry->slots, *before = slots[SLOT_PREVIOUS];
    if (before == NULL)
        return false;
    slots[SLOT_PREVIOUS] = slots[SLOT_LIVE];
    slots[SLOT_LIVE] = before;
    registry->counts.rollbacks++;
    publish_slots(registry);
    return true;
}

struct served_model *registry_model(const struct registry *registry, enum model_slot slot) {
    return registry->slots[slot];
}

struct registry_counts registry_count(const struct registry *registry) {
    struct registry_counts counts = registry->counts;
    counts.failure = registry->failure;
    return counts;
}

void registry_free(struct registry *registry) {
    if (registry == NULL)
        return;
    for (size_t i = 0; i < MODEL_SLOTS; i++)
        served_model_release(registry->slots[i]);
    served_model_release(registry->previous);
    pthread_mutex_lock(&registry->mutex);
    registry->stopping = true;
    pthread_cond_signal(&registry->work_available);
    pthread_mutex_unlock(&registry->mutex);
    pthread_join(registry->thread, NULL);
    if (registry->state == LOAD_ENDED && registry->loaded.served != NULL)
        served_model_close(registry->loaded.served);
    pthread_mutex_destroy(&registry->mutex);
    pthread_cond_destroy(&registry->work_available);
    pthread_cond_destroy(&registry->load_ended);
    free(registry);
}
