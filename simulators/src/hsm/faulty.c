/* A PKCS#11 module that is SoftHSM, but for what is wrong with it on purpose. Compiled at the start of a run that asks for it.
 *
 * MODULE: SoftHSM's library. SLOW_US: microseconds that each C_Sign takes longer. LOCKED, FULL, CRASH: 1 for a PIN that is locked, a token
 * without room, a module that ends its process at its third signature. The interface is that of PKCS #11 2.40: a version, then pointers in the order
 * of its functions. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

typedef unsigned long rv;
typedef unsigned long ulong;
typedef unsigned char byte;

enum { FUNCTIONS = 68, C_LOGIN = 18, C_CREATE_OBJECT = 20, C_SIGN = 43, C_GENERATE_KEY_PAIR = 59 };
enum { CKR_DEVICE_MEMORY = 0x31, CKR_PIN_LOCKED = 0xa4, CKR_GENERAL_ERROR = 0x05 };

struct list {
    byte major, minor;
    void *functions[FUNCTIONS];
};

static struct list list;
static rv (*sign)(ulong, byte *, ulong, byte *, ulong *);

static rv slow_sign(ulong session, byte *data, ulong length, byte *signature, ulong *signature_length) {
    static int signatures;
    if (CRASH && ++signatures == 3)
        abort();
    /* Asking for a length costs nothing. */
    if (SLOW_US && signature) {
        struct timespec pause = {SLOW_US / 1000000, SLOW_US % 1000000 * 1000L};
        nanosleep(&pause, 0);
    }
    return sign(session, data, length, signature, signature_length);
}

static rv locked_login(ulong session, ulong user, byte *pin, ulong length) {
    (void)session, (void)user, (void)pin, (void)length;
    return CKR_PIN_LOCKED;
}

static rv full_pair(ulong session, void *mechanism, void *public, ulong public_count, void *private, ulong private_count,
                    ulong *public_key, ulong *private_key) {
    (void)session, (void)mechanism, (void)public, (void)public_count, (void)private, (void)private_count;
    (void)public_key, (void)private_key;
    return CKR_DEVICE_MEMORY;
}

static rv full_object(ulong session, void *template, ulong count, ulong *object) {
    (void)session, (void)template, (void)count, (void)object;
    return CKR_DEVICE_MEMORY;
}

static rv own_list(struct list **out) {
    *out = &list;
    return 0;
}

rv C_GetFunctionList(struct list **out) {
    struct list *real;
    void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
    rv (*get)(struct list **) = module ? (rv(*)(struct list **))dlsym(module, "C_GetFunctionList") : 0;
    if (!get || get(&real))
        return CKR_GENERAL_ERROR;
    list = *real;
    list.functions[3] = (void *)own_list;
    sign = (rv(*)(ulong, byte *, ulong, byte *, ulong *))real->functions[C_SIGN];
    list.functions[C_SIGN] = (void *)slow_sign;
    if (LOCKED)
        list.functions[C_LOGIN] = (void *)locked_login;
    if (FULL) {
        list.functions[C_GENERATE_KEY_PAIR] = (void *)full_pair;
        list.functions[C_CREATE_OBJECT] = (void *)full_object;
    }
    *out = &list;
    return 0;
}
