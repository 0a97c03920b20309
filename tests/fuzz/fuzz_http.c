/* fuzz_http.c: any bytes on the connections of a whole service with the demo model.
 *
 * An input is what clients do, one after another. The byte 0x1E stands before a letter: "n" opens another connection,
 * "a" one to the admin plane, which has no token here and loads no model,
 * "p" lets the server run, so that bytes before and after it are read apart, "h" closes the sending side, "r" resets,
 * "s" looks at all connections' deadlines. Everything else is sent on the connection that was opened last.
 *
 * Each answer is whole, with a status that is counted, and there are no more answers than are counted. When all clients
 * have gone, no connection, request or byte is held, and an ordinary request has the answer that it always had.
 * LeakSanitizer looks for what is lost. Runs in the repository's top directory; seeds are in tests/fuzz/http.
 */
#include "proto/json_decode.h"
#include "server/api/admin_access.h"
#include "server/api/admin_calls.h"
#include "server/api/api.h"
#include "server/base/clock.h"
#include "server/base/listen.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OPERATION = 0x1E, CONNECTIONS = 8, REPLY_ROOM = 1 << 20, ROUNDS = 2000, QUIET_ROUNDS = 3 };

static const char canary[] =
    "POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 125\r\n\r\n"
    "{\"user\": {\"country\": 29}, \"context\": {\"month\": 8}, \"history\": {\"item\": [\"A13\", \"B4\"]}, "
    "\"candidates\": {\"item\": [\"B10\", \"C5\"]}}";

static struct api api;
static struct options options;
static struct sockaddr_in address, admin_address;
static struct admin_access access_rules;
static sem_t woken;
static char canary_reply[8192];

/* A client's socket, and all that it has read. */
struct caller {
    int socket;
    char *got;
    size_t size;
};
static struct caller clients[CONNECTIONS];
static size_t client_count;

static void wake(void *context) {
    (void)context;
    sem_post(&woken);
}

/* A reload begins, and ends in run(). */
static bool begin_reload(void *context) {
    (void)context;
    return api.waits_for_load == NULL;
}

static bool roll_back(void *context) {
    (void)context;
    return false;
}

static void drain(void *context) {
    (void)context;
}

/* The admin plane, by the limits of the public port. */
static void start_admin(struct http_options http) {
    struct listen_socket listening;
    char error[256];
    socklen_t size = sizeof admin_address;
    require(listen_bind(&listening, "127.0.0.1:0", false, 0, error, sizeof error));
    require(listen_begin(&listening, 64, error, sizeof error));
    require(getsockname(listening.descriptor, (struct sockaddr *)&admin_address, &size) == 0);
    require(admin_access_start(&access_rules, &listening, "admin.example:1", NULL, NULL, error, sizeof error));
    api.access = &access_rules;
    api.operations = (struct api_operations){.reload = begin_reload, .roll_back = roll_back, .drain = drain};
    http.plane = PLANE_ADMIN;
    http.admit = api_admit;
    http.listening = listening.descriptor;
    api.admin = http_start(&http);
    require(api.admin != NULL);
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    static char *argv[] = {"fuzz", "--model", "model/demo", "--max-body", "65536", "--access-log", "on", NULL};
    char text[ADDRESS_TEXT], error[256];
    struct dien_error refused = {""};
    socklen_t size = sizeof address;
    sem_init(&woken, 0, 0);
    json_decode_init();
    require(options_parse(&options, 7, argv, stdout, error, sizeof error) == OPTIONS_RUN);
    log_start(LEVEL_ERROR);
    api = (struct api){.options = &options, .state = API_READY, .started = clock_now(), .threads = 1};
    struct dien_model *model = dien_open("model/demo", &refused);
    struct served_model *served = model != NULL ? served_model_new(model, 1) : NULL;
    api.models = registry_start(&(struct registry_options){.threads = 1, .wake = wake});
    api.cache = user_cache_new((size_t)16 << 20, 0);
    require(served != NULL && api.cache != NULL && api.models != NULL);
    served->loaded_by = "start";
    registry_go_live(api.models, served);
    require(api_describe_model(&api));
    scoring_counts_model(&api.metrics.scoring, model);
    const struct worker_pool_options pool = {
        .served = served_model_hold(served),
        .limits = {.max_candidates = 64, .max_history = 64, .memory = (size_t)16 << 20},
        .cache = api.cache,
        .threads = 1,
        .queue = 64,
        .deadline = clock_from_seconds(60),
        .counts = &api.metrics.scoring,
        .wake = wake,
    };
    api.workers = worker_pool_start(&pool);
    int listening = listen_open("127.0.0.1:0", false, 64, text, error, sizeof error);
    require(api.workers != NULL && listening >= 0);
    require(getsockname(listening, (struct sockaddr *)&address, &size) == 0);
    const struct http_options http = {
        .limits = {.max_body = options.max_body,
                   .max_call = options.admin_max_body,
                   .max_buffered = options.max_buffered,
                   .max_reply_buffered = options.max_reply_buffered,
                   .max_connections = 4, /* fewer than an input may open */
                   .reserved_connections = options.reserved_connections,
                   .connection_memory = options.connection_memory,
                   .header_timeout = 3600,
                   .body_timeout = 3600,
                   .reply_timeout = 3600,
                   .idle_timeout = 3600,
                   .linger_timeout = 0},
        .counts = &api.metrics.http,
        .work_size = sizeof(struct job),
        .listening = listening,
        .context = &api,
        .handle = api_handle,
        .ended = api_ended,
    };
    api.http = http_start(&http);
    require(api.http != NULL);
    start_admin(http);
    return 0;
}

/* ---- the clients */

static bool is_readable(int socket) {
    struct pollfd one = {.fd = socket, .events = POLLIN};
    return poll(&one, 1, 0) == 1;
}

static void read_all(struct caller *client) {
    while (client->socket >= 0 && client->size < REPLY_ROOM && is_readable(client->socket)) {
        ssize_t got = recv(client->socket, client->got + client->size, REPLY_ROOM - client->size, MSG_DONTWAIT);
        if (got <= 0)
            return;
        client->size += (size_t)got;
    }
}

/* Until nothing moves any more: the service has no events, the pool no jobs, and the clients read nothing new. */
static void run(void) {
    int quiet = 0;
    for (int i = 0; i < ROUNDS && quiet < QUIET_ROUNDS; i++) {
        size_t before = 0, after = 0;
        for (size_t j = 0; j < client_count; j++)
            before += clients[j].size;
        bool works = worker_pool_waiting(api.workers) > 0 || worker_pool_busy(api.workers) > 0;
        if (works)
            sem_wait(&woken);
        api_give_answers(&api);
        admin_calls_load_ended(&api, "There is no model.");
        works |= http_run(api.http) == 0;
        works |= http_run(api.admin) == 0 || api.waits_for_load != NULL;
        http_linger(api.http);
        http_linger(api.admin);
        for (size_t j = 0; j < client_count; j++) {
            read_all(&clients[j]);
            after += clients[j].size;
        }
        quiet = works || after > before ? 0 : quiet + 1;
    }
}

static void open_client(const struct sockaddr_in *to) {
    if (client_count == CONNECTIONS)
        return;
    struct caller *client = &clients[client_count++];
    *client = (struct caller){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .got = malloc(REPLY_ROOM + 1)};
    require(client->socket >= 0 && client->got != NULL);
    require(connect(client->socket, (const struct sockaddr *)to, sizeof *to) == 0);
}

static void send_bytes(struct caller *client, const uint8_t *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(client->socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the server has ended the connection, or reads no more */
        data += sent;
        size -= (size_t)sent;
        run();
    }
}

static void reset_client(struct caller *client) {
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client->socket, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client->socket);
    client->socket = -1;
}

/* ---- the answers */

static bool is_known_status(int status) {
    for (size_t i = 0; i < HTTP_STATUSES - 1; i++)
        if (http_statuses[i] == status)
            return true;
    return false;
}

static size_t length_of_body(const char *head, const char *end) {
    static const char name[] = "\r\nContent-Length: ";
    const char *line = memmem(head, (size_t)(end - head), name, sizeof name - 1);
    return line != NULL ? strtoul(line + sizeof name - 1, NULL, 10) : 0;
}

/* The number of answers. Each of them is whole, unless the client has cut the connection. The answer to HEAD has a
 * length and no body. libmicrohttpd's own refusals may have their head twice, which is one answer. */
static size_t count_answers(const struct caller *client, bool was_cut) {
    size_t answers = 0;
    client->got[client->size] = '\0';
    const char *place = client->got, *end = client->got + client->size;
    int before = 0;
    while (place < end) {
        if (was_cut && end - place < 16)
            break;
        require(strncmp(place, "HTTP/1.1 ", 9) == 0);
        const char *blank = strstr(place, "\r\n\r\n");
        int status = (int)strtol(place + 9, NULL, 10);
        require(status == 100 || is_known_status(status));
        require(blank != NULL || was_cut);
        if (status != 100 && status != before)
            answers++;
        before = 0;
        if (blank == NULL)
            break;
        size_t length = length_of_body(place, blank);
        place = blank + 4;
        if (strncmp(place, "HTTP/1.1 ", 9) == 0)
            before = status == 431 || status == 414 || status == 400 ? status : 0;
        else if (length > (size_t)(end - place))
            break; /* of HEAD, or cut */
        else
            place += length;
    }
    return answers;
}

static size_t counted(void) {
    size_t sum = 0;
    for (unsigned i = 0; i < ROUTES; i++)
        for (unsigned j = 0; j < HTTP_STATUSES; j++)
            sum += counter_get(&api.metrics.http.responses[i][j]);
    return sum;
}

/* All clients go, and then the service holds nothing. Returns the answers that they read. */
static size_t close_clients(void) {
    size_t answers = 0;
    for (size_t i = 0; i < client_count; i++) {
        struct caller *client = &clients[i];
        read_all(client);
        answers += count_answers(client, client->socket < 0);
        if (client->socket >= 0)
            close(client->socket);
        client->socket = -1;
        free(client->got);
    }
    client_count = 0;
    for (int i = 0; i < 2; i++) {
        struct http *http = i == 0 ? api.http : api.admin;
        for (int j = 0; j < ROUNDS && http_connections(http) + http_lingering(http) > 0; j++) {
            run();
            http_sweep(http);
            http_expire_lingering(http);
        }
        require(http_connections(http) == 0 && http_lingering(http) == 0);
        require(http_in_flight(http) == 0 && http_buffered(http) == 0 && http_reply_buffered(http) == 0);
    }
    return answers;
}

/* An ordinary request has the same results after any input: the body of its answer, from "results" on. */
static void check_canary(void) {
    open_client(&address);
    send_bytes(&clients[0], (const uint8_t *)canary, sizeof canary - 1);
    run();
    struct caller *client = &clients[0];
    client->got[client->size] = '\0';
    const char *results = strstr(client->got, "\"results\"");
    require(strncmp(client->got, "HTTP/1.1 200 ", 13) == 0 && results != NULL);
    require(client->size < sizeof canary_reply);
    if (canary_reply[0] == '\0')
        memcpy(canary_reply, results, strlen(results) + 1);
    require(strcmp(canary_reply, results) == 0);
    require(close_clients() == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t before = counted();
    open_client(&address);
    while (size > 0) {
        struct caller *client = &clients[client_count - 1];
        const uint8_t *operation = memchr(data, OPERATION, size);
        size_t bytes = operation != NULL ? (size_t)(operation - data) : size;
        if (client->socket >= 0)
            send_bytes(client, data, bytes);
        data += bytes;
        size -= bytes;
        if (size < 2)
            break;
        switch (data[1]) {
        case 'n':
            open_client(&address);
            break;
        case 'a':
            open_client(&admin_address);
            break;
        case 'p':
            run();
            break;
        case 'h':
            if (client->socket >= 0)
                shutdown(client->socket, SHUT_WR);
            break;
        case 'r':
            if (client->socket >= 0)
                reset_client(client);
            break;
        case 's':
            http_sweep(api.http);
            http_sweep(api.admin);
            run();
            break;
        default:
            break;
        }
        data += 2;
        size -= 2;
    }
    run();
    size_t answers = close_clients();
    log_set_level(LEVEL_ERROR); /* a call may have set another one */
    require(answers <= counted() - before);
    check_canary();
    return 0;
}
