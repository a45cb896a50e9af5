/* Runs one generated function on AArch64, or under qemu-user: reads a file, writes the output's memory to stdout.

   The file: seven 64-bit numbers (bytes of code, where its entry is, float32 elements of image, weights, arena and
   output, threads), the margin before the output's first element, then code, image, weights and output. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CODE, ENTRY, IMAGE, WEIGHTS, ARENA, OUTPUT, THREADS, MARGIN, NUMBERS };
enum { USLEEP = 25, TEAM_WORDS = 64 }; /* as in abi.py */

typedef void run_type(float *, float *, float *, float *, int64_t *, int64_t, int64_t, int64_t);

static int64_t number[NUMBERS];
static float *image, *weights, *arena, *output;
static int64_t *team;
static run_type *run;

static void *aligned(size_t bytes, FILE *file)
{
    void *place = NULL;
    if (posix_memalign(&place, 64, bytes + 64) || (file && fread(place, 1, bytes, file) != bytes))
        exit(2);
    return place;
}

static void *work(void *thread)
{
    run(image, weights, arena, output + number[MARGIN], team, 0, (int64_t)(intptr_t)thread, number[THREADS]);
    return NULL;
}

int main(int count, char **arguments)
{
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(number, sizeof(int64_t), NUMBERS, file) != NUMBERS)
        return 2;
    char *code = mmap(NULL, number[CODE], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED || fread(code, 1, number[CODE], file) != (size_t)number[CODE])
        return 2;
    if (mprotect(code, number[CODE], PROT_READ | PROT_EXEC))
        return 2;
    __builtin___clear_cache(code, code + number[CODE]);
    image = aligned(4 * number[IMAGE], file);
    weights = aligned(4 * number[WEIGHTS], file);
    output = aligned(4 * number[OUTPUT], file);
    arena = aligned(4 * number[ARENA], NULL);
    for (int64_t i = 0; i < number[ARENA]; i++)
        arena[i] = NAN; /* what a step needs to be zero, it must make so */
    team = aligned(8 * TEAM_WORDS, NULL);
    memset(team, 0, 8 * TEAM_WORDS);
    team[USLEEP] = (int64_t)(intptr_t)usleep;
    run = (run_type *)(code + number[ENTRY]);
    pthread_t others[256];
    for (intptr_t i = 1; i < number[THREADS]; i++)
        if (pthread_create(&others[i], NULL, work, (void *)i))
            return 2;
    work(NULL);
    for (int64_t i = 1; i < number[THREADS]; i++)
        pthread_join(others[i], NULL);
    return fwrite(output, 4, number[OUTPUT], stdout) == (size_t)number[OUTPUT] ? 0 : 2;
}
