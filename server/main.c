/* main.c: the DIEN scoring server, from its options to its exit status.
 *
 * OpenBLAS chooses its kernels when it is loaded, before main, and falls back to slow ones on CPUs it does not know. So
 * the program checks its choice. If the CPU can do better, it sets the environment and runs itself anew.
 */
#include "model/dien.h"
#include "proto/json_decode.h"
#include "server/api/admin_client.h"
#include "server/base/cpu_quota.h"
#include "server/base/crash.h"
#include "server/base/log.h"
#include "server/base/process.h"
#include "server/base/version.h"
#include "server/history_command.h"
#include "server/http/health_probe.h"
#include "server/models/model_loader.h"
#include "server/options.h"
#include "server/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A socket must not become standard error because that was closed. Writing to the descriptor that stands there instead
 * fails as before, and lines of the log count as dropped. */
static void hold_standard_descriptors(void) {
    int descriptor = -1;
    do {
        descriptor = open("/dev/null", O_RDONLY);
    } while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor >= 0)
        close(descriptor);
}

/* Signals that people send to servers by habit, to reload or to turn over a log: their default would end the process. A
 * re-execution keeps them ignored. The loop takes SIGHUP over. */
static void ignore_signals(void) {
    static const int ignored[] = {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        signal(ignored[i], SIG_IGN);
}

/* Once: the variable that is set here is looked at first. Returns when there is nothing to do, or no way to do it. */
static void run_with_better_blas(char **argv) {
    static const char variable[] = "OPENBLAS_CORETYPE";
    const char *better = getenv(variable) == NULL ? dien_blas_better_core() : NULL;
    if (better == NULL)
        return;
    setenv(variable, better, 1);
    execv("/proc/self/exe", argv);
    log_message(LEVEL_WARNING, "blas", "The program cannot run itself anew with %s=%s: %s. Products will be slow.",
                variable, better, strerror(errno));
}

/* --check: does the model load, and does it score as its training code did? */
static int check_model(const struct options *options) {
    struct loaded loaded;
    const struct load load = {.directory = options->model,
                              .precision = options->precision,
                              .tolerance = options->samples_tolerance,
                              .copy = options->model_copy};
    loader_load(&load, &loaded);
    if (loaded.served == NULL) {
        fprintf(stderr, "%s\n", loaded.message);
        return 1;
    }
    const struct dien_model *model = loaded.served->model;
    printf("%s version %s, %s: %zu samples, %zu scores, largest difference %.3g (tolerance %.3g), loaded in %.3f s\n",
           dien_name(model), dien_version(model), dien_precision_name(model), loaded.samples.samples,
           loaded.samples.scores, loaded.samples.largest, loaded.tolerance, loaded.seconds);
    served_model_release(loaded.served);
    return 0;
}

/* The log's thread starts here: a re-execution or a check of the model needs none. */
static int serve(const struct options *options, const char *kernels) {
    if (!log_start_writer(options->log_buffer)) {
        log_message(LEVEL_ERROR, "start-failed", "The log's thread cannot start: %s", strerror(errno));
        return 1;
    }
    log_line(LEVEL_INFO, "starting", LOG_STRING("version", SERVER_VERSION), LOG_STRING("model", options->model),
             LOG_STRING("kernels", kernels), LOG_STRING("blas_core", dien_blas_core()),
             LOG_NUMBER("cpu_quota", cpu_quota_read("")),
             LOG_NUMBER("threads", (double)(options->threads > 0 ? options->threads : cpu_quota_threads(""))));
    return service_run(options);
}

int main(int argc, char **argv) {
    struct options options;
    struct dien_error no_kernels = {""};
    char error[512] = "";
    hold_standard_descriptors();
    ignore_signals();
    enum options_result result = options_parse(&options, argc, argv, stdout, error, sizeof error);
    if (result != OPTIONS_RUN) {
        fputs(error, stderr);
        fputs(result == OPTIONS_BAD ? "\n" : "", stderr);
        return result == OPTIONS_BAD ? 2 : 0;
    }
    if (options.probe != NULL) {
        /* Linux connects to the loopback where an address is 0.0.0.0 or [::]. */
        const char *address = strcmp(options.probe, "self") == 0 ? options.listen : options.probe;
        bool ready = probe_ready(address, error, sizeof error);
        fputs(ready ? "" : error, stderr);
        fputs(ready ? "" : "\n", stderr);
        return ready ? 0 : 1;
    }
    if (options.admin != NULL) {
        json_decode_init();
        return admin_client_run(&options, stdout, stderr);
    }
    process_return_memory();
    log_start(options.log_level);
    if (options.histories_export == NULL && options.histories_import == NULL)
        run_with_better_blas(argv);
    options_hide_secrets(&options);
    crash_install();
    json_decode_init();
    const char *kernels = dien_kernels_name(&no_kernels);
    int status = 1;
    if (options.histories_export != NULL || options.histories_import != NULL) {
        status = history_command(&options);
    } else if (kernels == NULL) {
        log_message(LEVEL_ERROR, "start-failed", "%s", no_kernels.message);
    } else if (options.check) {
        status = check_model(&options);
    } else {
        status = serve(&options, kernels);
    }
    log_stop();
    return status;
}
