// A 32-bit program that sleeps until it is killed. It needs no C library, so none for 32 bits need be installed.
void _start(void) {
    for (;;)
        __asm__ volatile("int $0x80" : : "a"(29 /* pause */));
}
