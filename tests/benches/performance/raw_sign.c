/* How often a PKCS#11 module signs by itself: SESSIONS threads, a session each, C_SignInit and C_Sign in a loop for so many seconds. Prints the
 * rate. Usage: raw_sign MODULE TOKEN_LABEL PIN KEY_LABEL SESSIONS SECONDS. The interface is that of PKCS #11 2.40. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long ulong;
struct list { unsigned char major, minor; void *functions[68]; };
struct attribute { ulong type; void *value; ulong length; };
struct mechanism { ulong mechanism; void *parameter; ulong length; };
struct arguments { void *create, *destroy, *lock, *unlock; ulong flags; void *reserved; };

static struct list *module;
static volatile int over;
static char *key_label;
#define CALL(number, ...) ((ulong(*)())module->functions[number])(__VA_ARGS__)
static void must(ulong answer, const char *what) {
    if (answer && answer != 0x100) { fprintf(stderr, "%s: 0x%lx\n", what, answer); exit(1); }
}

static void *sign(void *argument) {
    ulong session = *(ulong *)argument, class = 3, key, found, length, count = 0;
    struct attribute wanted[] = {{0, &class, sizeof class}, {3, key_label, strlen(key_label)}};
    struct mechanism ecdsa = {0x1041, 0, 0};
    unsigned char digest[32] = {7}, signature[96];
    must(CALL(26, session, wanted, 2UL), "C_FindObjectsInit");
    must(CALL(27, session, &key, 1UL, &found), "C_FindObjects");
    must(CALL(28, session), "C_FindObjectsFinal");
    if (!found) must(1, "no key");
    while (!over) {
        length = sizeof signature;
        must(CALL(42, session, &ecdsa, key), "C_SignInit");
        must(CALL(43, session, digest, 32UL, signature, &length), "C_Sign");
        count++;
    }
    return (void *)count;
}

int main(int count, char **argument) {
    ulong slots[64], slot_count = 64, slot = ~0UL, total = 0;
    if (count != 7) return 2;
    void *library = dlopen(argument[1], RTLD_NOW);
    if (!library || ((ulong(*)())dlsym(library, "C_GetFunctionList"))(&module)) return 1;
    struct arguments initial = {0, 0, 0, 0, 2, 0};
    must(CALL(0, &initial), "C_Initialize");
    must(CALL(4, 1, slots, &slot_count), "C_GetSlotList");
    for (ulong at = 0; at < slot_count; at++) {
        char info[512] = {0};
        must(CALL(6, slots[at], info), "C_GetTokenInfo");
        if (!strncmp(info, argument[2], strlen(argument[2]))) slot = slots[at];
    }
    key_label = argument[4];
    int threads = atoi(argument[5]), seconds = atoi(argument[6]);
    pthread_t thread[64];
    ulong session[64];
    for (int at = 0; at < threads; at++) {
        must(CALL(12, slot, 4UL, (void *)0, (void *)0, &session[at]), "C_OpenSession");
        must(CALL(18, session[at], 1UL, argument[3], strlen(argument[3])), "C_Login");
    }
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int at = 0; at < threads; at++) pthread_create(&thread[at], 0, sign, &session[at]);
    struct timespec pause = {seconds, 0};
    nanosleep(&pause, 0);
    over = 1;
    for (int at = 0; at < threads; at++) {
        void *signed_by;
        pthread_join(thread[at], &signed_by);
        total += (ulong)signed_by;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%f\n", total / (end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9));
    return 0;
}
