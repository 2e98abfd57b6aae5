// A library whose only allocation functions have the C library's do all the work, as libbsd's.
#include <stdlib.h>

void *reallocf(void *block, size_t size)
{
    void *bigger = realloc(block, size);
    if (bigger == NULL && block != NULL)
        free(block);
    return bigger;
}
